// A session that moves to another group of the same shape: each rank of the one asks the same rank of the other for its rows,
// piece by piece, and imports them. What does not come, or is of another shape, is prefilled as if there were nothing.
import { randomInt } from "node:crypto"
import { Effect } from "effect"
import { Nats } from "../../bus/nats.ts"
import { groupSubjects } from "../../wire/subjects.ts"
import { type TransferOptions, transfer } from "./transfer.ts"

export interface TransferOverBusOptions extends Omit<TransferOptions, "ask" | "give" | "maxPayload" | "wishes"> {
  readonly deployment: string
}

/** Hears what other groups give until the scope closes. */
export const transferOverBus = Effect.fnUntraced(function* ({ deployment, ...options }: TransferOverBusOptions) {
  const { connection } = yield* Nats
  const { epoch, group, rank } = options
  const handing = transfer({
    ...options,
    ask: (source, wish) => connection.publish(groupSubjects({ deployment, ...source }).kvWish, wish),
    give: (target, piece) => {
      if (!connection.isClosed()) connection.publish(groupSubjects({ deployment, ...target }).kv(rank), piece)
    },
    wishes: randomInt(2 ** 31),
    maxPayload: () => connection.info?.max_payload ?? 2 ** 20,
  })
  const subject = groupSubjects({ deployment, epoch, group }).kv(rank)
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      connection.subscribe(subject, {
        callback: (error, { data }) => (error === null ? handing.delivered(data) : undefined),
      }),
    ),
    (subscription) => Effect.sync(() => subscription.unsubscribe()),
  )
  return handing
})

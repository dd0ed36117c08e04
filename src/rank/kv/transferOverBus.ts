// A session that moves to another group of the same shape: each rank of the one asks the same rank of the other for its rows,
// piece by piece, and imports them. What does not come, or is of another shape, is prefilled as if there were nothing.
import { randomInt } from "node:crypto"
import { Effect } from "effect"
import { Bus } from "../../bus/bus.ts"
import { groupSubjects } from "../../wire/subjects.ts"
import { type TransferOptions, transfer } from "./transfer.ts"

export interface TransferOverBusOptions extends Omit<TransferOptions, "ask" | "give" | "maxPayload" | "wishes"> {
  readonly deployment: string
}

/** Hears what other groups give until the scope closes. */
export const transferOverBus = Effect.fnUntraced(function* ({ deployment, ...options }: TransferOverBusOptions) {
  const { publish, subscribe, maxPayload } = yield* Bus
  const { epoch, group, rank } = options
  const handing = transfer({
    ...options,
    ask: (source, wish) => publish(groupSubjects({ deployment, ...source }).kvWish, wish),
    give: (target, piece) => publish(groupSubjects({ deployment, ...target }).kv(rank), piece),
    wishes: randomInt(2 ** 31),
    maxPayload,
  })
  const subject = groupSubjects({ deployment, epoch, group }).kv(rank)
  yield* subscribe(subject, ({ data }) => handing.delivered(data))
  return handing
})

// Activations over core NATS: nothing is stored, and what a lost connection had on the way is gone.
import { Effect, Stream } from "effect"
import { Nats } from "../../bus/nats.ts"
import { groupSubjects } from "../../wire/subjects.ts"
import type { OpenTransport, Transport } from "./transport.ts"

interface RankAddress {
  readonly deployment: string
  readonly group: string
  readonly rank: number
  readonly epoch: number
}

/** One message a hop, which the server fans out where it is for all. */
export const overNats = (place: RankAddress): OpenTransport<Nats> =>
  Effect.fnUntraced(function* ({ received, broken }) {
    const { connection, disconnects } = yield* Nats
    const subjects = groupSubjects(place)
    for (const subject of [subjects.activation(place.rank), subjects.activations]) {
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          connection.subscribe(subject, { callback: (error, message) => (error ? undefined : received(message.data)) }),
        ),
        (subscription) => Effect.sync(() => subscription.unsubscribe()),
      )
    }
    yield* Stream.fromPubSub(disconnects).pipe(
      Stream.runForEach(() => Effect.sync(broken)),
      Effect.forkScoped,
    )
    const transport: Transport = {
      send: (to, message) => connection.publish(to === "all" ? subjects.activations : subjects.activation(to), message),
      maxPayload: () => connection.info?.max_payload ?? 2 ** 20,
    }
    return transport
  })

// Activations over the bus: nothing is stored, and what a lost connection had on the way is gone.
import { Effect, Stream } from "effect"
import { Bus } from "../../bus/bus.ts"
import { groupSubjects } from "../../wire/subjects.ts"
import type { OpenTransport, Transport } from "./transport.ts"

interface RankAddress {
  readonly deployment: string
  readonly group: string
  readonly rank: number
  readonly epoch: number
}

/** One message a hop, which the server fans out where it is for all. */
export const overBus = (place: RankAddress): OpenTransport<Bus> =>
  Effect.fnUntraced(function* ({ received, broken }) {
    const { publish, subscribe, disconnects, maxPayload } = yield* Bus
    const subjects = groupSubjects(place)
    for (const subject of [subjects.activation(place.rank), subjects.activations]) {
      yield* subscribe(subject, ({ data }) => received(data))
    }
    yield* Stream.fromPubSub(disconnects).pipe(
      Stream.runForEach(() => Effect.sync(broken)),
      Effect.forkScoped,
    )
    const transport: Transport = {
      send: (to, message) => publish(to === "all" ? subjects.activations : subjects.activation(to), message),
      maxPayload,
    }
    return transport
  })

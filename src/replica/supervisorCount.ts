// How many supervisors share the replicas of a deployment, by their beats: each gives out its part of the memory.
import { Effect, Result } from "effect"
import { Nats } from "../bus/nats.ts"
import { SUPERVISOR_BEAT_MILLIS, SupervisorBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import { subjectsOf } from "../wire/subjects.ts"

const beats = codec("supervisor beat", SupervisorBeat)

/** One that has not been heard for so many beats is gone. */
const BEATS_MISSED = 4

/** Gives how many there are, this one among them; `changed` is called when it is another number. */
export const countSupervisors = Effect.fnUntraced(function* (deployment: string, changed: () => void) {
  const { connection } = yield* Nats
  const missed = new Map<string, number>() // beats, of each that was heard
  const hear = (message: Uint8Array): void => {
    const beat = beats.decode(message)
    if (Result.isFailure(beat)) return
    const { id, state } = beat.success
    const before = missed.size
    if (state === "draining") missed.delete(id)
    else missed.set(id, 0)
    if (missed.size !== before) changed()
  }
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      connection.subscribe(subjectsOf(deployment).beat("supervisor.*"), {
        callback: (error, { data }) => (error === null ? hear(data) : undefined),
      }),
    ),
    (subscription) => Effect.sync(() => subscription.unsubscribe()),
  )
  const tick = Effect.sync(() => {
    const before = missed.size
    for (const [id, beats] of missed) {
      missed.set(id, beats + 1)
      if (beats >= BEATS_MISSED) missed.delete(id)
    }
    if (missed.size !== before) changed()
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(SUPERVISOR_BEAT_MILLIS), tick)))
  return () => Math.max(1, missed.size)
})

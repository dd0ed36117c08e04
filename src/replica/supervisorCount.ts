// How many supervisors share the replicas of a deployment, by their beats: each gives out its part of the memory.
import { Effect, Result, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { Heard } from "../bus/silence.ts"
import { SUPERVISOR_BEAT_MILLIS, SupervisorBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import { subjectsOf } from "../wire/subjects.ts"

const beats = codec("supervisor beat", SupervisorBeat)

/** A supervisor that misses this many beats is gone. */
const BEATS_MISSED = 4

/** Those that are heard. One that is cut off, or held up itself, hears no other, and is no more alone for that. */
export class Sharers {
  readonly #heard: Heard<string, true>
  readonly #changed: () => void

  constructor(changed: () => void, now: number) {
    this.#changed = changed
    this.#heard = new Heard({ everyMillis: SUPERVISOR_BEAT_MILLIS, missed: BEATS_MISSED + 1 }, now)
  }

  /** Including this one. */
  get count(): number {
    return Math.max(1, this.#heard.all.size)
  }

  hear({ id, state }: Pick<SupervisorBeat, "id" | "state">): void {
    if (state === "draining") return this.#left(id)
    if (this.#heard.hear(id, true) === undefined) this.#changed()
  }

  /** A beat's time has passed. */
  tick(now: number, connected: boolean): void {
    if (this.#heard.tick(now, connected).length > 0) this.#changed()
  }

  #left(id: string): void {
    if (this.#heard.left(id)) this.#changed()
  }
}

/** Gives how many there are, this one among them; `changed` is called when it is another number. */
export const countSupervisors = Effect.fnUntraced(function* (deployment: string, changed: () => void) {
  const { subscribe, connected } = yield* Bus
  const sharers = new Sharers(changed, performance.now())
  const hear = (message: Uint8Array): void => {
    const beat = beats.decode(message)
    if (Result.isSuccess(beat)) sharers.hear(beat.success)
  }
  yield* subscribe(subjectsOf(deployment).beat("supervisor.*"), ({ data }) => hear(data))
  const tick = Effect.sync(() => sharers.tick(performance.now(), SubscriptionRef.getUnsafe(connected)))
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(SUPERVISOR_BEAT_MILLIS), tick)))
  return () => sharers.count
})

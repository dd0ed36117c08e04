// Turns at sessions that are at rest: what copies, exports or closes one waits for the work on it, and for nothing else, so
// many sessions that begin with copies do not stand in one line behind the device.
import { Effect, Semaphore } from "effect"

interface Turns {
  readonly one: Semaphore.Semaphore
  users: number // that have it, or wait for it
}

export class Rest {
  readonly #sessions = new Map<string, Turns>()

  /** Runs an effect while nothing else works on the session. */
  at<A, E>(session: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.suspend(() => {
      const turns = this.#sessions.get(session) ?? { one: Semaphore.makeUnsafe(1), users: 0 }
      this.#sessions.set(session, turns)
      turns.users++
      return Effect.ensuring(
        turns.one.withPermits(1)(effect),
        Effect.sync(() => {
          if (--turns.users === 0) this.#sessions.delete(session)
        }),
      )
    })
  }
}

// What ends a session before it has all its tokens: a client's cancellation, its deadline, that it is no longer read, or that
// it will no longer be served.
import { Deferred, Effect } from "effect"
import type { GenerateRequest } from "../generation/request.ts"
import { DeadlineOver, type EarlyEnd, ServingOver } from "../generation/services.ts"
import { Cancelled } from "../wire/errors.ts"

/** What a session may be ended by. */
type Bounds = Pick<GenerateRequest, "deadlineMillis" | "interestMillis">

interface Lifetime {
  readonly early: Deferred.Deferred<never, EarlyEnd>
  readonly deadline: Timer | undefined
  readonly interest: Timer | undefined // begins anew each time a reader is heard
}

export interface Timer {
  readonly refresh: () => void
  readonly close: () => void
}

/** Cancellations remembered for sessions that are owned elsewhere. */
const MOST_WORDS = 4_096

/** The longest time that a timer knows: 24 days. */
const TIMER_MILLIS = 2 ** 31 - 1

export class Lifetimes {
  readonly #sessions = new Map<string, Lifetime>()
  /** Cancelled while they were not here: perhaps without an owner, which may have died. The supervisor that takes them over ends them. */
  readonly #words = new Set<string>()
  readonly #connected: () => boolean
  readonly #after: (millis: number, fire: () => void) => Timer

  /** While `connected` says no, readers cannot be heard and so are not missed. */
  constructor(connected: () => boolean, after: (millis: number, fire: () => void) => Timer) {
    this.#connected = connected
    this.#after = after
  }

  /** Some of the deadline's time is over where another supervisor has begun it; readers are waited for from now on. */
  open(session: string, { deadlineMillis, interestMillis }: Bounds, overMillis: number): void {
    const overdue = (): void => this.#end(session, new DeadlineOver({ session }))
    const unread = (): void => {
      if (this.#connected()) this.cancel(session)
      else this.renew(session)
    }
    this.#sessions.set(session, {
      early: Deferred.makeUnsafe(),
      deadline: this.#timer(deadlineMillis === null ? null : Math.max(0, deadlineMillis - overMillis), overdue),
      interest: this.#timer(interestMillis, unread),
    })
    if (this.#words.delete(session)) this.cancel(session)
  }

  /** Fails when the session has to end. */
  of(session: string): Effect.Effect<never, EarlyEnd> {
    const lifetime = this.#sessions.get(session)
    return lifetime === undefined ? Effect.fail(new Cancelled({ session })) : Deferred.await(lifetime.early)
  }

  cancel(session: string): void {
    if (this.#sessions.has(session)) return this.#end(session, new Cancelled({ session }))
    this.#words.add(session)
    const [oldest] = this.#words
    if (this.#words.size > MOST_WORDS && oldest !== undefined) this.#words.delete(oldest)
  }

  /** No supervisor will go on with them. */
  endAll(): void {
    for (const session of this.#sessions.keys()) this.#end(session, new ServingOver({ session }))
  }

  /** The session is read. */
  renew(session: string): void {
    this.#sessions.get(session)?.interest?.refresh()
  }

  /** Readers that could not be heard for a while have their whole time again. */
  renewAll(): void {
    for (const session of this.#sessions.keys()) this.renew(session)
  }

  close(session: string): void {
    const lifetime = this.#sessions.get(session)
    lifetime?.deadline?.close()
    lifetime?.interest?.close()
    this.#sessions.delete(session)
  }

  #timer(millis: number | null, fire: () => void): Timer | undefined {
    return millis === null ? undefined : this.#after(Math.min(millis, TIMER_MILLIS), fire)
  }

  #end(session: string, error: EarlyEnd): void {
    const lifetime = this.#sessions.get(session)
    if (lifetime !== undefined) Deferred.doneUnsafe(lifetime.early, Effect.fail(error))
  }
}

/** Timers of the process that this runs in. */
export const timers = Effect.map(Effect.context(), (context) => (millis: number, fire: () => void): Timer => {
  const begin = () => Effect.runForkWith(context)(Effect.delay(Effect.sync(fire), millis))
  let running = begin()
  const close = (): void => running.interruptUnsafe()
  return {
    close,
    refresh: () => {
      close()
      running = begin()
    },
  }
})

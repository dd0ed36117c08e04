// Who is alive, as far as can be heard from here. Silence counts only while it could have been broken: not while our own
// connection was down, and not while we were stopped ourselves. So it is counted in ticks, by nobody's wall clock.
import { LEASE_MILLIS } from "../store/lease.ts"

export const TICK_MILLIS = 250

/** Dead for so long, one is forgotten. */
const FORGET_MILLIS = 60_000

export class Liveness {
  readonly #silence = new Map<string, number>() // millis

  /** Its time begins now, if it has not begun before. */
  expect(owner: string): void {
    if (!this.#silence.has(owner)) this.#silence.set(owner, 0)
  }

  heard(owner: string): void {
    this.#silence.set(owner, 0)
  }

  /** It has said that it goes. */
  left(owner: string): void {
    if (this.#silence.has(owner)) this.#silence.set(owner, FORGET_MILLIS)
  }

  /** One tick, in which everybody could have been heard, has gone by; true where somebody is dead since. */
  tick(): boolean {
    let died = false
    for (const [owner, silence] of this.#silence) {
      if (silence >= FORGET_MILLIS) this.#silence.delete(owner)
      else this.#silence.set(owner, silence + TICK_MILLIS)
      died ||= silence < LEASE_MILLIS && silence + TICK_MILLIS >= LEASE_MILLIS
    }
    return died
  }

  /** One that nobody has spoken of is given the benefit of the doubt. */
  isAlive(owner: string): boolean {
    return (this.#silence.get(owner) ?? 0) < LEASE_MILLIS
  }
}

// Which processes are alive, as far as can be heard from here.
import { Silence } from "../bus/silence.ts"
import { LEASE_MILLIS } from "../store/lease.ts"

export const TICK_MILLIS = 250

/** A process that is silent for this many ticks is dead. */
const LEASE = LEASE_MILLIS / TICK_MILLIS

/** And after this many it is forgotten. */
const FORGET = 60_000 / TICK_MILLIS

export class Liveness {
  readonly #silence: Silence<string>

  constructor(now: number) {
    this.#silence = new Silence({ everyMillis: TICK_MILLIS, missed: FORGET }, now)
  }

  /** Its time begins now, if it has not begun before. */
  expect(owner: string): void {
    this.#silence.expect(owner)
  }

  heard(owner: string): void {
    this.#silence.heard(owner)
  }

  /** It has said that it goes. */
  left(owner: string): void {
    if (this.#silence.since(owner) !== null) this.#silence.heard(owner, LEASE)
  }

  /** One tick has gone by; true where an owner is dead since. `connected`: whether owners could be heard. */
  tick(now: number, connected = true): boolean {
    const alive = this.#silence.keys.filter((owner) => this.isAlive(owner))
    this.#silence.tick(now, connected)
    return alive.some((owner) => !this.isAlive(owner))
  }

  /** A process that was never mentioned is given the benefit of the doubt. */
  isAlive(owner: string): boolean {
    return (this.#silence.since(owner) ?? 0) < LEASE
  }
}

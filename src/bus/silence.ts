// Who has fallen silent. Ticks of one's own clock are counted, not time, and nobody is judged at a tick that came late: who
// was held up himself, by load or as the whole machine was suspended, finds the others' beats in his socket first.

/** A tick that comes so many of them after the one before is late. */
export const LATE = 1.5

export interface SilenceOptions {
  readonly everyMillis: number // between two ticks, and between two beats
  readonly missed: number // beats: more, and who should have said them is silent
}

export class Silence<Key> {
  readonly #everyMillis: number
  readonly #missed: number
  readonly #since = new Map<Key, number>() // ticks since each was heard last
  #ticked: number

  /** Times are of a clock that nobody sets: performance's. */
  constructor({ everyMillis, missed }: SilenceOptions, now: number) {
    this.#everyMillis = everyMillis
    this.#missed = missed
    this.#ticked = now
  }

  heard(key: Key): void {
    this.#since.set(key, 0)
  }

  /** Nobody could be heard until now: all have their whole time again. */
  renew(): void {
    for (const key of this.#since.keys()) this.#since.set(key, 0)
  }

  forget(key: Key): void {
    this.#since.delete(key)
  }

  /** Those who are silent from now on. They are forgotten until they are heard again. */
  tick(now: number): ReadonlyArray<Key> {
    const late = now - this.#ticked > LATE * this.#everyMillis
    this.#ticked = now
    for (const [key, ticks] of this.#since) this.#since.set(key, ticks + 1)
    if (late) return []
    const silent = [...this.#since].filter(([, ticks]) => ticks >= this.#missed).map(([key]) => key)
    for (const key of silent) this.forget(key)
    return silent
  }
}

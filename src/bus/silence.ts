// Which peers have fallen silent. Ticks of the process's own clock are counted, not time. Where no peer could be heard, none is
// judged: not while the connection is down, and not at a tick that comes late, since a process that was held up, by load or
// because the whole machine was suspended, finds the others' beats in its socket first.

/** A tick that comes this many periods after the one before is late. */
const LATE = 1.5

export interface SilenceOptions {
  readonly everyMillis: number // between two ticks, and between two beats
  readonly missed: number // ticks without a beat: then it is silent
}

export class Silence<Key> {
  readonly #everyMillis: number
  readonly #missed: number
  readonly #ticks = new Map<Key, number>() // since each was heard last
  #ticked: number

  /** Times are of a clock that cannot be set: performance's. */
  constructor({ everyMillis, missed }: SilenceOptions, now: number) {
    this.#everyMillis = everyMillis
    this.#missed = missed
    this.#ticked = now
  }

  /** As if it had been heard this many ticks ago; below 0, it has that many more than the others. */
  heard(key: Key, ticks = 0): void {
    this.#ticks.set(key, ticks)
  }

  /** Its time begins now, if it has not begun before. */
  expect(key: Key): void {
    if (!this.#ticks.has(key)) this.#ticks.set(key, 0)
  }

  forget(key: Key): void {
    this.#ticks.delete(key)
  }

  /** Ticks since it was heard last; null where it is not known, or silent already. */
  since(key: Key): number | null {
    return this.#ticks.get(key) ?? null
  }

  get keys(): ReadonlyArray<Key> {
    return [...this.#ticks.keys()]
  }

  /** Those that are silent from now on. They are forgotten until they are heard again. */
  tick(now: number, connected = true): ReadonlyArray<Key> {
    const late = now - this.#ticked > LATE * this.#everyMillis
    this.#ticked = now
    if (!connected) for (const key of this.#ticks.keys()) this.#ticks.set(key, 0)
    if (!connected || late) return []
    for (const [key, ticks] of this.#ticks) this.#ticks.set(key, ticks + 1)
    const silent = [...this.#ticks].filter(([, ticks]) => ticks >= this.#missed).map(([key]) => key)
    for (const key of silent) this.forget(key)
    return silent
  }
}

/** The newest word of each that is heard still. */
export class Heard<Key, Word> {
  readonly #newest = new Map<Key, Word>()
  readonly #silence: Silence<Key>

  constructor(options: SilenceOptions, now: number) {
    this.#silence = new Silence(options, now)
  }

  /** Gives what it had said before. */
  hear(key: Key, word: Word): Word | undefined {
    const before = this.#newest.get(key)
    this.#newest.set(key, word)
    this.#silence.heard(key)
    return before
  }

  /** It has said that it goes. True where it was there. */
  left(key: Key): boolean {
    this.#silence.forget(key)
    return this.#newest.delete(key)
  }

  get all(): ReadonlyMap<Key, Word> {
    return this.#newest
  }

  /** Ticks since it was heard last. */
  since(key: Key): number {
    return this.#silence.since(key) ?? 0
  }

  /** Those that are gone from now on. */
  tick(now: number, connected: boolean): ReadonlyArray<Key> {
    const silent = this.#silence.tick(now, connected)
    for (const key of silent) this.#newest.delete(key)
    return silent
  }
}

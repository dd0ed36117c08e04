// A generator that is nothing but its seed: what it drew once, it draws again.

export class Random {
  #state: number

  /** For the `index`th draw of a run; neighbours have nothing in common. */
  constructor(seed: number, index: number) {
    this.#state = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(index + 1, 0xc2b2ae35)) >>> 0
    for (let i = 0; i < 4; i++) this.#next()
  }

  /** Mulberry32. */
  #next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return (t ^ (t >>> 14)) >>> 0
  }

  /** From 0 up to, and without, `end`. */
  below(end: number): number {
    return Math.floor((this.#next() / 2 ** 32) * end)
  }

  chance(probability: number): boolean {
    return this.#next() / 2 ** 32 < probability
  }

  pick<A>(from: ReadonlyArray<A>): A {
    const one = from[this.below(from.length)]
    if (one === undefined) throw new Error("there is nothing to pick from")
    return one
  }

  bytes(count: number): Buffer {
    return Buffer.from(Array.from({ length: count }, () => this.below(256)))
  }
}

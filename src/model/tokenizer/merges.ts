// Byte-pair merging: of the pairs of neighbours that have a merge, the one of the least rank is joined, the leftmost of
// equals, until there is none. The merges are numbers in flat tables, a hundred thousand of them in two or three MiB.
import type { Symbols } from "./symbols.ts"

export type Merge = string | readonly [string, string] // "left right", or the two

const ROOM = 1.5 // slots for each merge

/** A pair to be joined is one number, so that a heap orders pairs by rank and then by place. */
const PLACES = 2 ** 29 // more than a string has

export class Merges {
  readonly #left: Int32Array // symbols, by rank
  readonly #right: Int32Array
  readonly #made: Int32Array
  readonly #slots: Int32Array // ranks, by the hash of a pair

  /** Texts of the merges become symbols; of a pair that is there twice the later merge counts. */
  constructor(symbols: Symbols, merges: Iterable<Merge>) {
    const table: Array<number> = []
    for (const merge of merges) {
      const [left, right] = typeof merge === "string" ? merge.split(" ", 2) : merge
      if (left === undefined || right === undefined)
        table.push(-1, -1, -1) // never found, and counts as a rank
      else table.push(symbols.add(left), symbols.add(right), symbols.add(left + right))
    }
    const every = (offset: number) =>
      Int32Array.from({ length: table.length / 3 }, (_, i) => table[3 * i + offset] ?? -1)
    this.#left = every(0)
    this.#right = every(1)
    this.#made = every(2)
    this.#slots = new Int32Array(2 ** Math.ceil(Math.log2(this.#left.length * ROOM + 2))).fill(-1)
    this.#left.forEach((left, rank) => {
      if (left >= 0) this.#slots[this.#slotOf(left, this.#right[rank] ?? -1)] = rank
    })
  }

  /** Joins what can be joined, in place; returns how many symbols there are then. */
  join(symbols: Int32Array): number {
    const { length } = symbols
    const before = Int32Array.from(symbols, (_, i) => i - 1)
    const behind = Int32Array.from(symbols, (_, i) => i + 1)
    const gone = new Uint8Array(length)
    const pairs = new Heap()
    const offer = (at: number): void => {
      const next = at < 0 ? length : (behind[at] ?? length)
      const rank = next < length ? this.#rank(symbols[at] ?? -1, symbols[next] ?? -1) : -1
      if (rank >= 0) pairs.push(rank * PLACES + at)
    }
    for (let at = 0; at + 1 < length; at++) offer(at)
    for (let pair = pairs.pop(); pair !== undefined; pair = pairs.pop()) {
      const at = pair % PLACES
      const rank = (pair - at) / PLACES
      const next = behind[at] ?? length
      if (gone[at] === 1 || next >= length) continue
      if (symbols[at] !== this.#left[rank] || symbols[next] !== this.#right[rank]) continue // one was joined since
      symbols[at] = this.#made[rank] ?? -1
      gone[next] = 1
      const far = behind[next] ?? length
      behind[at] = far
      if (far < length) before[far] = at
      offer(before[at] ?? -1)
      offer(at)
    }
    let kept = 0
    for (let at = 0; at < length; at = behind[at] ?? length) symbols[kept++] = symbols[at] ?? -1
    return kept
  }

  #rank(left: number, right: number): number {
    return this.#slots[this.#slotOf(left, right)] ?? -1
  }

  #slotOf(left: number, right: number): number {
    const mask = this.#slots.length - 1
    const hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)
    let slot = (hash ^ (hash >>> 15)) & mask
    for (;;) {
      const rank = this.#slots[slot] ?? -1
      if (rank < 0 || (this.#left[rank] === left && this.#right[rank] === right)) return slot
      slot = (slot + 1) & mask
    }
  }
}

/** Numbers, the least first. */
class Heap {
  readonly #all: Array<number> = []

  push(value: number): void {
    const all = this.#all
    let at = all.push(value) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = all[parent] ?? value
      if (above <= value) break
      all[at] = above
      at = parent
    }
    all[at] = value
  }

  pop(): number | undefined {
    const all = this.#all
    const least = all[0]
    const value = all.pop()
    if (value === undefined || all.length === 0) return least
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= all.length) break
      if (child + 1 < all.length && (all[child + 1] ?? 0) < (all[child] ?? 0)) child++
      const below = all[child] ?? value
      if (below >= value) break
      all[at] = below
      at = child
    }
    all[at] = value
    return least
  }
}

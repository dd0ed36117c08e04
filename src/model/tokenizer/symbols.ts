// Texts numbered in the order in which they came, found again by a table of numbers: a Map of 150,000 strings would take
// several times the memory.

const ROOM = 1.5 // slots for each symbol, so that a search is short

export class Symbols {
  readonly #texts: Array<string> = []
  #slots = new Int32Array(1 << 9).fill(-1)

  get size(): number {
    return this.#texts.length
  }

  /** The number of a text, a new one where it has none. */
  add(text: string): number {
    const slot = this.#slotOf(text)
    const known = this.#slots[slot] ?? -1
    if (known >= 0) return known
    const symbol = this.#texts.push(text) - 1
    this.#slots[slot] = symbol
    if (this.#texts.length * ROOM > this.#slots.length) this.#grow()
    return symbol
  }

  /** -1 for a text that has no number. */
  find(text: string): number {
    return this.#slots[this.#slotOf(text)] ?? -1
  }

  text(symbol: number): string {
    return this.#texts[symbol] ?? ""
  }

  /** Where the text's number is, or would be. */
  #slotOf(text: string): number {
    const mask = this.#slots.length - 1
    let slot = hashOf(text) & mask
    for (;;) {
      const symbol = this.#slots[slot] ?? -1
      if (symbol < 0 || this.#texts[symbol] === text) return slot
      slot = (slot + 1) & mask
    }
  }

  #grow(): void {
    this.#slots = new Int32Array(this.#slots.length * 2).fill(-1)
    this.#texts.forEach((text, symbol) => {
      this.#slots[this.#slotOf(text)] = symbol
    })
  }
}

/** FNV-1a over UTF-16 units; the last step brings the high bits down to those that a table uses. */
const hashOf = (text: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash ^ (hash >>> 15)
}

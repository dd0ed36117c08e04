// From tokens to the text that a user may see: whole characters, and nothing that may still turn out to be a stop string.
import { Detokenizer, type Tokenizer } from "../model/index.ts"

export class Transcript {
  readonly #text: Detokenizer
  readonly #stops: ReadonlyArray<string>
  #held = "" // may be the beginning of a stop string
  #stopped = false

  constructor(tokenizer: Tokenizer, stops: ReadonlyArray<string>) {
    this.#text = new Detokenizer(tokenizer)
    this.#stops = stops
  }

  /** Whether a stop string has come. */
  get stopped(): boolean {
    return this.#stopped
  }

  /** The text that is certain with this token. Ends before a stop string. */
  push(token: number): string {
    return this.#release(this.#held + this.#text.push(token))
  }

  /** What was held back when no further token comes. */
  end(): string {
    if (this.#stopped) return ""
    const rest = this.#release(this.#held + this.#text.flush())
    return this.#stopped ? rest : rest + this.#held
  }

  #release(text: string): string {
    const stop = Math.min(...this.#stops.map((stop) => indexOf(text, stop)))
    this.#stopped = stop < Number.POSITIVE_INFINITY
    const certain = this.#stopped ? stop : text.length - beginning(text, this.#stops)
    this.#held = text.slice(certain)
    return text.slice(0, certain)
  }
}

const indexOf = (text: string, part: string): number => {
  const at = text.indexOf(part)
  return at === -1 ? Number.POSITIVE_INFINITY : at
}

/** The length of the longest end of the text that a stop string begins with. */
const beginning = (text: string, stops: ReadonlyArray<string>): number =>
  Math.max(
    0,
    ...stops.map((stop) => {
      let length = Math.min(stop.length - 1, text.length)
      while (length > 0 && !text.endsWith(stop.slice(0, length))) length--
      return length
    }),
  )

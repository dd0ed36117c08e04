// From tokens to the text that a user may see: whole characters, and nothing that may still turn out to be a stop string.
// Control tokens are no text, but a stop may name one: then it stands among the characters as one that no text has.
import { Detokenizer, type Tokenizer } from "../model/index.ts"

export class Transcript {
  readonly #text: Detokenizer
  readonly #marks: Marks
  readonly #stops: ReadonlyArray<string>
  #free: number // tokens in which no stop string is looked for
  #held = "" // may be the beginning of a stop string
  #spared = 0 // characters of it that came with those tokens: a stop string ends behind them
  #stopped = false

  constructor(tokenizer: Tokenizer, stops: ReadonlyArray<string>, free = 0) {
    this.#free = free
    const possible = stops.filter((stop) => stop.isWellFormed()) // as every text is
    this.#text = new Detokenizer(tokenizer)
    this.#marks = marksOf(tokenizer, possible)
    const named = possible.map((stop) => withMarks(stop, this.#marks))
    this.#stops = [...new Set([...possible, ...named])] // a name may also come as characters
  }

  /** Whether a stop string has come. */
  get stopped(): boolean {
    return this.#stopped
  }

  /** The text that is certain with this token. Ends before a stop string. */
  push(token: number): string {
    const text = this.#held + this.#text.push(token) + (this.#marks.get(token)?.mark ?? "")
    if (this.#free > 0) {
      this.#free--
      this.#spared = text.length
    }
    return this.#release(text)
  }

  /** What was held back when no further token comes. */
  end(): string {
    if (this.#stopped) return ""
    const rest = this.#release(this.#held + this.#text.flush())
    return this.#stopped ? rest : rest + withoutMarks(this.#held)
  }

  #release(text: string): string {
    const stop = Math.min(...this.#stops.map((stop) => indexOf(text, stop, this.#spared)))
    this.#stopped = stop < Number.POSITIVE_INFINITY
    const certain = this.#stopped ? stop : text.length - beginning(text, this.#stops)
    this.#held = text.slice(certain)
    this.#spared = Math.max(0, this.#spared - certain)
    return withoutMarks(text.slice(0, certain))
  }
}

/** The control tokens that stops name, and what stands for each. */
type Marks = ReadonlyMap<number, { readonly name: string; readonly mark: string }>

/** Low surrogates without a high one: a decoder of UTF-8 makes none. There are 1,024. */
const FIRST_MARK = 0xdc00
const LAST_MARK = 0xdfff

const marksOf = ({ vocabulary: { special, tokens } }: Tokenizer, stops: ReadonlyArray<string>): Marks => {
  const marks = new Map<number, { readonly name: string; readonly mark: string }>()
  for (const [token, kind] of stops.length === 0 ? [] : special) {
    const name = tokens[token] ?? ""
    const mark = FIRST_MARK + marks.size
    if (kind !== "control" || name === "" || mark > LAST_MARK) continue
    if (stops.some((stop) => stop.includes(name))) marks.set(token, { name, mark: String.fromCharCode(mark) })
  }
  return marks
}

/** The longest name first, as the tokenizer reads a text. */
const withMarks = (stop: string, marks: Marks): string =>
  Array.from(marks.values())
    .toSorted((a, b) => b.name.length - a.name.length)
    .reduce((text, { name, mark }) => text.replaceAll(name, mark), stop)

const withoutMarks = (text: string): string => text.replaceAll(/(?<![\ud800-\udbff])[\udc00-\udfff]/g, "")

/** Of a part that ends behind the first `spared` characters. */
const indexOf = (text: string, part: string, spared: number): number => {
  const at = text.indexOf(part, Math.max(0, spared - part.length + 1))
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

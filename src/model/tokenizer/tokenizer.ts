// Text to tokens and tokens to bytes; a stream has to be exact to the byte.
import { ModelUnsupported } from "../errors.ts"
import type { Part } from "../template/structure.ts"
import { fromByteLevel } from "./byteLevel.ts"
import { stripped } from "./components.ts"
import { type Encode, encodersOf } from "./encoder.ts"
import type { Vocabulary } from "./vocabulary.ts"

export interface EncodeOptions {
  /** Whether "<|im_start|>" in the text is that control token, or just characters. True. */
  readonly special?: boolean
  /** Whether the text gets what the model's files put around every text, such as bos, also where it has that already. True. */
  readonly addSpecialTokens?: boolean
}

export class Tokenizer {
  readonly vocabulary: Vocabulary
  #encoders: ReturnType<typeof built> | null = null
  readonly #bytes: Array<Uint8Array | undefined> = []

  constructor(vocabulary: Vocabulary) {
    this.vocabulary = vocabulary
  }

  /** Ids from here on have no token; the embedding may have more rows. */
  get size(): number {
    return this.vocabulary.tokens.length
  }

  /** Throws ModelUnsupported if the model's files describe a tokenizer that cannot be built. */
  encode(text: string, options: EncodeOptions = {}): Int32Array {
    const { special = true, addSpecialTokens = true } = options
    return this.encodeParts([{ text, structure: special }], { addSpecialTokens })
  }

  /** A text in which names of control tokens are those tokens in some parts, and characters in the others. */
  encodeParts(
    parts: ReadonlyArray<Part>,
    { addSpecialTokens = true }: Omit<EncodeOptions, "special"> = {},
  ): Int32Array {
    const { prefix, suffix } = this.vocabulary
    const ids = parts.map((part, i) => {
      const text = this.#stripped(part, parts[i - 1], parts[i + 1])
      return this.#encoder(part.structure)(text)
    })
    return Int32Array.from(addSpecialTokens ? [prefix, ids, suffix].flat(2) : ids.flat())
  }

  /** Some control tokens take the white space beside them, also where it is in a part of its own. */
  #stripped({ text, structure }: Part, before: Part | undefined, after: Part | undefined): string {
    if (structure || (before === undefined && after === undefined)) return text
    const { left, right } = this.#built().taking
    const begun = before?.structure === true && right.has(before.text)
    return stripped(text, begun, after?.structure === true && left.has(after.text))
  }

  /** The bytes that a token stands for; a control token's are its name. None for an id without a token. */
  bytes(token: number): Uint8Array {
    const known = this.#bytes[token]
    if (known !== undefined) return known
    const text = this.vocabulary.tokens[token]
    const literal = text === undefined || this.vocabulary.special.has(token)
    const bytes = literal ? new TextEncoder().encode(text ?? "") : fromByteLevel(text)
    if (text !== undefined) this.#bytes[token] = bytes
    return bytes
  }

  /** A control token marks structure and is not part of a text. */
  isControl(token: number): boolean {
    return this.vocabulary.special.get(token) === "control"
  }

  /** Whether a generation ends with this token. */
  isEnd(token: number): boolean {
    return this.vocabulary.ends.has(token)
  }

  /** Builds what `encode` needs, which takes some tenths of a second for 150,000 tokens, before the first text comes. */
  warm(): void {
    this.#encoder(true)
  }

  #built() {
    this.#encoders ??= built(this.vocabulary)
    return this.#encoders
  }

  #encoder(special: boolean): Encode {
    const { special: reading, plain } = this.#built()
    return special ? reading : plain
  }
}

const built = (vocabulary: Vocabulary) => {
  try {
    const definition = vocabulary.definition()
    const named = (flag: "lstrip" | "rstrip") =>
      new Set(definition.added_tokens.flatMap((token) => (token[flag] === true ? [token.content] : [])))
    return { ...encodersOf(definition), taking: { left: named("lstrip"), right: named("rstrip") } }
  } catch (error) {
    if (error instanceof ModelUnsupported) throw error
    const reason = `no tokenizer can be built from it: ${error instanceof Error ? error.message : String(error)}`
    throw new ModelUnsupported({ file: vocabulary.file, reason })
  }
}

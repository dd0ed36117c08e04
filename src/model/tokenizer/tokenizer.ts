// Text to tokens and tokens to bytes. Merging is @huggingface/tokenizers'; bytes are our own affair, because a stream has
// to be exact to the byte.
import { Tokenizer as Encoder } from "@huggingface/tokenizers"
import { ModelUnsupported } from "../errors.ts"
import type { Part } from "../template/structure.ts"
import type { Vocabulary } from "./vocabulary.ts"

export interface EncodeOptions {
  /** Whether "<|im_start|>" in the text is that control token, or just characters. True. */
  readonly special?: boolean
  /** Whether the text gets what the model's files put around every text, such as bos, also where it has that already. True. */
  readonly addSpecialTokens?: boolean
}

export class Tokenizer {
  readonly vocabulary: Vocabulary
  #encoders: ReturnType<typeof encodersOf> | null = null
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
      return this.#encoder(part.structure).encode(text, { add_special_tokens: false }).ids
    })
    return Int32Array.from(addSpecialTokens ? [prefix, ids, suffix].flat(2) : ids.flat())
  }

  /** Some control tokens take the white space beside them, also where it is in a part of its own. */
  #stripped({ text, structure }: Part, before: Part | undefined, after: Part | undefined): string {
    if (structure || (before === undefined && after === undefined)) return text
    const { left, right } = this.#built().taking
    const begun = before?.structure === true && right.has(before.text) ? text.trimStart() : text
    return after?.structure === true && left.has(after.text) ? begun.trimEnd() : begun
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
    this.#encoders ??= encodersOf(this.vocabulary)
    return this.#encoders
  }

  #encoder(special: boolean): Encoder {
    const { special: reading, plain } = this.#built()
    return special ? reading : plain
  }
}

const encodersOf = (vocabulary: Vocabulary) => {
  try {
    return buildEncoders(vocabulary)
  } catch (error) {
    if (error instanceof ModelUnsupported) throw error
    const reason = `no tokenizer can be built from it: ${error instanceof Error ? error.message : String(error)}`
    throw new ModelUnsupported({ file: vocabulary.file, reason })
  }
}

/** Two encoders over one merge table; the plain one does not know the control tokens. */
const buildEncoders = (vocabulary: Vocabulary) => {
  const definition = vocabulary.definition()
  const rest = { ...definition, post_processor: null, decoder: null }
  const special = new Encoder(rest, {})
  const added_tokens = definition.added_tokens.filter((token) => !token.special)
  const plain = new Encoder({ ...rest, added_tokens, model: { type: "BPE", vocab: {}, merges: [] } }, {})
  plain.model = special.model
  const named = (flag: "lstrip" | "rstrip") =>
    new Set(definition.added_tokens.flatMap((token) => (token[flag] === true ? [token.content] : [])))
  return { special, plain, taking: { left: named("lstrip"), right: named("rstrip") } }
}

/** GPT-2's alphabet: every byte as a printable character. Printable ones stand for themselves, the others follow U+0100. */
const byteOfCharacter: ReadonlyMap<string, number> = (() => {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff)
  const alphabet = new Map<string, number>()
  let next = 0x100
  for (let byte = 0; byte < 256; byte++) alphabet.set(String.fromCharCode(printable(byte) ? byte : next++), byte)
  return alphabet
})()

/** Characters outside the alphabet, which a sound vocabulary does not have, stand for themselves. */
const fromByteLevel = (token: string): Uint8Array => {
  const bytes: Array<number> = []
  for (const character of token) {
    const byte = byteOfCharacter.get(character)
    if (byte === undefined) bytes.push(...new TextEncoder().encode(character))
    else bytes.push(byte)
  }
  return Uint8Array.from(bytes)
}

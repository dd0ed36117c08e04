// Tokens to text as they come. A character whose bytes are spread over tokens is held back until it is whole, so the
// pieces joined are the text of all the bytes, with U+FFFD only for bytes that are no UTF-8.
import type { Tokenizer } from "./tokenizer.ts"

export interface DetokenizerOptions {
  /** Whether control tokens appear, by their names. False. */
  readonly control?: boolean
}

export class Detokenizer {
  readonly #tokenizer: Tokenizer
  readonly #control: boolean
  readonly #utf8 = new TextDecoder("utf-8", { ignoreBOM: true })

  constructor(tokenizer: Tokenizer, options: DetokenizerOptions = {}) {
    this.#tokenizer = tokenizer
    this.#control = options.control ?? false
  }

  /** The text that is whole with this token and was not before; may be empty. */
  push(token: number): string {
    if (!this.#control && this.#tokenizer.isControl(token)) return ""
    return this.#utf8.decode(this.#tokenizer.bytes(token), { stream: true })
  }

  /** What was held back and never became whole: empty, or U+FFFD. The next push begins a new text. */
  flush(): string {
    return this.#utf8.decode()
  }
}

/** A whole sequence at once. */
export const detokenize = (tokenizer: Tokenizer, tokens: Iterable<number>, options?: DetokenizerOptions): string => {
  const detokenizer = new Detokenizer(tokenizer, options)
  let text = ""
  for (const token of tokens) text += detokenizer.push(token)
  return text + detokenizer.flush()
}

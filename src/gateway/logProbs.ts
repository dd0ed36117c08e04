// Log-probabilities in the two forms that OpenAI has for them. They are the model's own, before temperature and the like. An
// entry is a token, whatever has become of it in the text: a part of a character, or of a stop string.
import type { EndToken, LoggedToken, PromptToken } from "../client/index.ts"

type Scored = PromptToken | EndToken | LoggedToken

interface Named {
  readonly bytes: Uint8Array
  readonly logProb: number
}

interface Told extends Partial<Pick<EndToken, "logProb" | "top">> {
  readonly id: number
  readonly bytes: Uint8Array
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** Null for what is no text by itself. */
const textOf = (bytes: Uint8Array): string | null => {
  try {
    return strict.decode(bytes)
  } catch {
    return null
  }
}

/** As OpenAI writes a part of a character: \xe2\x80. */
const escaped = (bytes: Uint8Array): string =>
  [...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")

const entryOf = ({ bytes, logProb }: Named) => ({
  ...{ token: textOf(bytes) ?? escaped(bytes), logprob: logProb },
  bytes: [...bytes],
})

/** Of a chat. */
export const chatLogProbs = (tokens: ReadonlyArray<LoggedToken>) => ({
  content: tokens.flatMap(({ bytes, logProb, top = [] }) =>
    bytes === undefined || logProb === undefined
      ? []
      : [{ ...entryOf({ bytes, logProb }), top_logprobs: top.map(entryOf) }],
  ),
  refusal: null,
})

/** As OpenAI names a token of a completion. */
const nameOf = (bytes: Uint8Array): string => textOf(bytes) ?? `bytes:${escaped(bytes)}`

/** Of one choice of a completion, from piece to piece of it: where a token begins in the text is counted in characters. */
export class CompletionLogProbs {
  #utf8 = new TextDecoder("utf-8", { ignoreBOM: true })
  #at = 0

  /** Of the prompt that an answer begins with, which is `text`, or whatever its tokens say. */
  ofPrompt(tokens: ReadonlyArray<PromptToken>, text: string) {
    const [first] = tokens
    // Put before the text by the model's files.
    const added = first?.control === true && !text.startsWith(nameOf(first.bytes)) ? first : null
    const told = this.#of(tokens, (token) => token !== added)
    this.#utf8 = new TextDecoder("utf-8", { ignoreBOM: true })
    this.#at = charactersIn(text)
    return told
  }

  ofAnswer(tokens: ReadonlyArray<LoggedToken | EndToken>) {
    return this.#of(tokens, ({ control }) => control !== true)
  }

  #of<Token extends Scored>(tokens: ReadonlyArray<Token>, isText: (token: Token) => boolean) {
    const text_offset: Array<number> = []
    const own: Array<Told> = []
    for (const token of tokens) {
      const { bytes } = token
      if (bytes === undefined) continue
      own.push({ ...token, bytes })
      text_offset.push(this.#at)
      if (isText(token)) this.#at += charactersIn(this.#utf8.decode(bytes, { stream: true }))
    }
    return {
      tokens: own.map(({ bytes }) => nameOf(bytes)),
      token_logprobs: own.map(({ logProb = null }) => logProb),
      top_logprobs: own.map(topOf),
      text_offset,
    }
  }
}

/** The token itself is always among them, as with OpenAI, and each has a name of its own. */
const topOf = ({ id, bytes, logProb, top }: Told) => {
  if (logProb === undefined || top === undefined) return null
  const all = top.some((other) => other.id === id) ? top : [...top, { id, bytes, logProb }]
  const named = new Map<string, number>()
  for (const { id, bytes, logProb } of all) {
    const name = nameOf(bytes)
    named.set(named.has(name) ? `token_id:${id}` : name, logProb)
  }
  return Object.fromEntries(named)
}

/** Code points, as Python counts. */
const charactersIn = (text: string): number => {
  let count = 0
  for (const _ of text) count++
  return count
}

/** The text of a prompt that was given as tokens. */
export const textOfPrompt = (tokens: ReadonlyArray<PromptToken>): string =>
  new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.concat(tokens.map(({ bytes }) => bytes)))

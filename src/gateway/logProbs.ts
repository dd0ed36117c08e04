// Log-probabilities in the two forms that OpenAI has for them. They are the model's own, before temperature and the like.
import type { LoggedToken } from "../client/index.ts"

const encoder = new TextEncoder()

const entryOf = (text: string, logProb: number) => ({
  token: text,
  logprob: logProb,
  bytes: [...encoder.encode(text)],
})

/** Of a chat. Text that was held back to the end has no token of its own. */
export const chatLogProbs = (tokens: ReadonlyArray<LoggedToken>) => ({
  content: tokens.flatMap(({ text, logProb, top = [] }) =>
    logProb === undefined
      ? []
      : [{ ...entryOf(text, logProb), top_logprobs: top.map((other) => entryOf(other.text, other.logProb)) }],
  ),
  refusal: null,
})

/** Of a completion, whose tokens so far make `offset` characters. */
export const completionLogProbs = (tokens: ReadonlyArray<LoggedToken>, offset: number) => {
  const logged = tokens.filter(({ logProb }) => logProb !== undefined)
  let at = offset
  const offsets = logged.map(({ text }) => {
    const start = at
    at += text.length
    return start
  })
  return {
    tokens: logged.map(({ text }) => text),
    token_logprobs: logged.map(({ logProb }) => logProb),
    top_logprobs: logged.map(({ top = [] }) => Object.fromEntries(top.map(({ text, logProb }) => [text, logProb]))),
    text_offset: offsets,
  }
}

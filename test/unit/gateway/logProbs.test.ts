// Log-probabilities as OpenAI's clients read them: a token is itself, whatever has become of it in the text.
import { expect, test } from "vitest"
import type { LoggedToken, PromptToken } from "../../../src/client/index.ts"
import { CompletionLogProbs, chatLogProbs, textOfPrompt } from "../../../src/gateway/logProbs.ts"

const bytesOf = (text: string): Uint8Array => Buffer.from(text)
const other = (id: number, bytes: Uint8Array, logProb: number) => ({
  id,
  bytes,
  logProb,
  text: Buffer.from(bytes).toString(),
})
const token = (id: number, bytes: Uint8Array, text: string): LoggedToken => ({
  ...{ id, bytes, text, origin: "plain", logProb: -1, top: [other(id, bytes, -1)] },
})
const [first, second] = [bytesOf("🚀").subarray(0, 2), bytesOf("🚀").subarray(2)]

test("a character of several tokens is told in parts, and characters are counted as Python does", () => {
  const tokens = [
    token(1, bytesOf("a👍"), "a👍"),
    token(2, first, ""),
    token(3, second, "🚀"),
    token(4, bytesOf("b"), "b"),
  ]
  const told = new CompletionLogProbs().ofAnswer(tokens)
  expect(told.tokens).toEqual(["a👍", "bytes:\\xf0\\x9f", "bytes:\\x9a\\x80", "b"])
  expect(told.text_offset).toEqual([0, 2, 2, 3])
  expect(told.top_logprobs[1]).toEqual({ "bytes:\\xf0\\x9f": -1 })
  const { content } = chatLogProbs(tokens)
  expect(content.map(({ token }) => token)).toEqual(["a👍", "\\xf0\\x9f", "\\x9a\\x80", "b"])
  expect(Buffer.from(content.flatMap(({ bytes }) => bytes)).toString()).toBe("a👍🚀b")
})

test("a token behind a stop string that did not come has its own bytes, and text that has none is no token", () => {
  const tokens = [token(1, bytesOf("<"), ""), token(2, bytesOf("p>"), "<p>")]
  const rest: LoggedToken = { id: -1, text: "x", origin: "plain" }
  expect(new CompletionLogProbs().ofAnswer([...tokens, rest])).toMatchObject({
    tokens: ["<", "p>"],
    text_offset: [0, 1],
  })
  expect(chatLogProbs([...tokens, rest]).content.map(({ token }) => token)).toEqual(["<", "p>"])
})

test("alternatives never swallow one another, and the chosen token is among them", () => {
  const alternatives = [
    other(1, bytesOf("x"), -1),
    other(2, bytesOf("x"), -2),
    other(3, first, -3),
    other(4, first, -4),
  ]
  const told = new CompletionLogProbs().ofAnswer([{ ...token(9, bytesOf("y"), "y"), logProb: -7, top: alternatives }])
  expect(told.top_logprobs).toEqual([{ x: -1, "token_id:2": -2, "bytes:\\xf0\\x9f": -3, "token_id:4": -4, y: -7 }])
})

test("a prompt goes before, without what the model's files put around it, and its first token has no number", () => {
  const prompt: ReadonlyArray<PromptToken> = [
    { id: 0, bytes: bytesOf("<bos>"), control: true },
    { id: 1, bytes: bytesOf("né"), logProb: -1, top: [] },
    { id: 2, bytes: bytesOf("<sep>"), control: true, logProb: -2, top: [] },
  ]
  const scores = new CompletionLogProbs()
  const told = scores.ofPrompt(prompt, "né<sep>")
  expect(told.tokens).toEqual(["<bos>", "né", "<sep>"])
  expect(told.text_offset).toEqual([0, 0, 2])
  expect(told.token_logprobs).toEqual([null, -1, -2])
  expect(told.top_logprobs).toEqual([null, { né: -1 }, { "<sep>": -2 }])
  const control: LoggedToken = { ...token(5, bytesOf("<sep>"), ""), control: true }
  expect(scores.ofAnswer([control, token(6, bytesOf("z"), "z")]).text_offset).toEqual([7, 7]) // no part of an answer
  expect(textOfPrompt(prompt)).toBe("<bos>né<sep>")
  expect(new CompletionLogProbs().ofPrompt(prompt, textOfPrompt(prompt)).text_offset).toEqual([0, 5, 7])
})

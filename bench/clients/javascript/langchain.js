// LangChain's ChatOpenAI for JavaScript.
import { readFileSync } from "node:fs"
import { ChatOpenAI } from "@langchain/openai"
import { asked, collect, messages, serve } from "./driver.js"

const chat = ({ model = asked.model, apiKey = asked.key, ...change } = {}) => {
  const settings = { maxTokens: asked.maxTokens, temperature: 0, maxRetries: 0, ...change }
  return new ChatOpenAI({ ...settings, model, apiKey, configuration: { baseURL: asked.url } })
}

const usageOf = ({ usage_metadata: { input_tokens, output_tokens } }) => ({
  ...{ prompt: input_tokens, completion: output_tokens },
})

const chatted = async (change, options) => {
  const answer = await chat(change).invoke(messages, options)
  const finish = [answer.response_metadata.finish_reason]
  return { of: "chat", texts: [answer.content], finish, usage: usageOf(answer) }
}

const chattedInPieces = async (change) => {
  const chunks = await collect(await chat(change).stream(messages))
  const pieces = chunks.map(({ content }) => content).filter((piece) => piece !== "")
  const counted = chunks.filter(({ usage_metadata }) => usage_metadata !== undefined).map(usageOf)
  const usage = counted.length === 0 ? {} : { usage: counted.at(-1) }
  return { of: "chat", texts: [pieces.join("")], pieces: pieces.length, ...usage }
}

const refused = async (change) => {
  const error = await chat(change)
    .invoke(messages)
    .then(
      () => null,
      (failure) => failure,
    )
  if (error === null) throw new Error("it was not refused")
  return { status: error.status }
}

const eightAtOnce = async () => {
  const answers = await Promise.all(asked.seeds.map((seed) => chatted({ temperature: 1, modelKwargs: { seed } })))
  return { of: "chat", texts: answers.map(({ texts: [text] }) => text) }
}

const hungUp = async () => {
  const hanging = new AbortController()
  const stream = await chat({ model: asked.held }).stream(messages, { signal: hanging.signal })
  for await (const _ of stream) break
  hanging.abort()
  return {}
}

const file = new URL("../node_modules/@langchain/openai/package.json", import.meta.url)
const { version } = JSON.parse(readFileSync(file, "utf8"))

await serve(version, {
  chat: chatted,
  "streamed chat": chattedInPieces,
  "streamed usage": () => chattedInPieces({ streamUsage: true }),
  stop: () => chatted({}, { stop: [asked.stop.chat] }),
  seed: () => chatted({ temperature: 1, modelKwargs: { seed: asked.seed } }),
  penalties: () => {
    const { presence, frequency } = asked.penalties
    return chatted({ presencePenalty: presence, frequencyPenalty: frequency })
  },
  "eight at once": eightAtOnce,
  "bad field": () => refused({ topP: 9 }),
  "unknown model": () => refused({ model: "nobody" }),
  "API key": () => refused({ apiKey: asked.wrongKey }),
  "hang-up": hungUp,
  silence: () => chattedInPieces({ model: asked.held }),
})

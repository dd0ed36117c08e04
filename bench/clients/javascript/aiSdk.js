// The AI SDK, with its provider for servers that speak OpenAI's language.
import { readFileSync } from "node:fs"
import { createOpenAICompatible } from "@ai-sdk/openai-compatible"
import { APICallError, generateText, streamText } from "ai"
import { asked, collect, messages, refused, serve } from "./driver.js"

const providerOf = (apiKey) =>
  createOpenAICompatible({ name: "chorus", baseURL: asked.url, apiKey, includeUsage: true })
const provider = providerOf(asked.key)
const settings = { maxOutputTokens: asked.maxTokens, temperature: 0, maxRetries: 0 }
const chat = (model = asked.model) => ({ ...settings, model: provider.chatModel(model), messages })
const factsOf = (of, { text, finishReason, usage }) => ({
  ...{ of, texts: [text], finish: [finishReason] },
  usage: { prompt: usage.inputTokens, completion: usage.outputTokens },
})

const generated = async (of, request) => factsOf(of, await generateText(request))

const streamed = async (of, request) => {
  const failures = []
  const stream = streamText({ ...request, onError: ({ error }) => failures.push(error) })
  const pieces = await collect(stream.textStream)
  if (failures.length > 0) throw failures[0]
  const [text, finishReason, usage] = await Promise.all([stream.text, stream.finishReason, stream.usage])
  return { ...factsOf(of, { text, finishReason, usage }), pieces: pieces.filter((piece) => piece !== "").length }
}

const eightAtOnce = async () => {
  const answers = await Promise.all(asked.seeds.map((seed) => generateText({ ...chat(), temperature: 1, seed })))
  return { of: "chat", texts: answers.map(({ text }) => text) }
}

const hungUp = async () => {
  const hanging = new AbortController()
  const stream = streamText({ ...chat(asked.held), abortSignal: hanging.signal, onError: () => {} })
  for await (const { type } of stream.fullStream) if (type === "start-step") hanging.abort()
  return {}
}

const { version } = JSON.parse(readFileSync(new URL("../node_modules/ai/package.json", import.meta.url), "utf8"))

await serve(version, {
  chat: () => generated("chat", chat()),
  "streamed chat": () => streamed("chat", chat()),
  "streamed usage": () => streamed("chat", chat()),
  stop: () => generated("chat", { ...chat(), stopSequences: [asked.stop.chat] }),
  seed: () => generated("chat", { ...chat(), temperature: 1, seed: asked.seed }),
  penalties: () => {
    const { presence, frequency } = asked.penalties
    return generated("chat", { ...chat(), presencePenalty: presence, frequencyPenalty: frequency })
  },
  "eight at once": eightAtOnce,
  "bad field": () => refused(APICallError, () => generateText({ ...chat(), topP: 9 })),
  "unknown model": () => refused(APICallError, () => generateText(chat("nobody"))),
  "API key": () => {
    const model = providerOf(asked.wrongKey).chatModel(asked.model)
    return refused(APICallError, () => generateText({ ...chat(), model }))
  },
  "hang-up": hungUp,
  silence: () => streamed("chat", chat(asked.held)),
})

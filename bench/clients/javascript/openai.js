// OpenAI's official client for JavaScript.
import OpenAI from "openai"
import { VERSION } from "openai/version"
import { asked, collect, messages, refused, serve } from "./driver.js"

const clientOf = (apiKey) => new OpenAI({ baseURL: asked.url, apiKey, maxRetries: 0 })
const client = clientOf(asked.key)
const common = { model: asked.model, max_tokens: asked.maxTokens, temperature: 0 }
const sampled = { temperature: 1, seed: asked.seed }

const usageOf = ({ prompt_tokens, completion_tokens }) => ({ prompt: prompt_tokens, completion: completion_tokens })

const completed = async (change) => {
  const { choices, usage } = await client.completions.create({ ...common, prompt: asked.prompt, ...change })
  const finish = choices.map(({ finish_reason }) => finish_reason)
  return { of: "completion", texts: choices.map(({ text }) => text), finish, usage: usageOf(usage) }
}

const chatted = async (change) => {
  const { choices, usage } = await client.chat.completions.create({ ...common, messages, ...change })
  const finish = choices.map(({ finish_reason }) => finish_reason)
  return { of: "chat", texts: choices.map(({ message }) => message.content), finish, usage: usageOf(usage) }
}

const completedInPieces = async (change) => {
  const request = { ...common, prompt: asked.prompt, ...change, stream: true }
  const chunks = await collect(await client.completions.create(request))
  const pieces = chunks.flatMap(({ choices }) => choices.map(({ text }) => text)).filter((text) => text !== "")
  return { of: "completion", texts: [pieces.join("")], pieces: pieces.length }
}

const chattedInPieces = async (change, options) => {
  const request = { ...common, messages, ...change, stream: true }
  const chunks = await collect(await client.chat.completions.create(request, options))
  const pieces = chunks.flatMap(({ choices }) => choices.map(({ delta }) => delta.content ?? ""))
  const usage = chunks.at(-1)?.usage
  const said = pieces.filter((text) => text !== "")
  return { of: "chat", texts: [said.join("")], pieces: said.length, ...(usage ? { usage: usageOf(usage) } : {}) }
}

const logProbabilities = async () => {
  const { choices } = await client.completions.create({ ...common, prompt: asked.prompt, logprobs: 1 })
  return { of: "completion", logprobs: choices[0].logprobs.token_logprobs }
}

const chatLogProbabilities = async () => {
  const { choices } = await client.chat.completions.create({ ...common, messages, logprobs: true, top_logprobs: 1 })
  return { of: "chat", logprobs: choices[0].logprobs.content.map(({ logprob }) => logprob) }
}

const echoed = async () => {
  const { choices } = await client.completions.create({ ...common, prompt: asked.prompt, echo: true, logprobs: 1 })
  return { of: "completion", texts: [choices[0].text], logprobs: choices[0].logprobs.token_logprobs }
}

const eightAtOnce = async () => {
  const answers = await Promise.all(asked.seeds.map((seed) => chatted({ temperature: 1, seed })))
  return { of: "chat", texts: answers.map(({ texts: [text] }) => text) }
}

const hungUp = async () => {
  const stream = await client.chat.completions.create({ ...common, model: asked.held, messages, stream: true })
  for await (const _ of stream) break
  return {}
}

await serve(VERSION, {
  models: async () => ({ models: (await collect(await client.models.list())).map(({ id }) => id) }),
  completion: completed,
  chat: chatted,
  "streamed completion": completedInPieces,
  "streamed chat": chattedInPieces,
  "streamed usage": () => chattedInPieces({ stream_options: { include_usage: true } }),
  stop: () => chatted({ stop: asked.stop.chat }),
  seed: () => chatted(sampled),
  n: () => chatted({ ...sampled, n: 2 }),
  penalties: () => {
    const { presence, frequency } = asked.penalties
    return chatted({ presence_penalty: presence, frequency_penalty: frequency })
  },
  "log-probabilities": logProbabilities,
  "chat's log-probabilities": chatLogProbabilities,
  echo: echoed,
  characters: () => completedInPieces({ prompt: asked.accents }),
  "eight at once": eightAtOnce,
  "bad field": () => refused(OpenAI.BadRequestError, () => chatted({ top_p: 9 })),
  "unknown model": () => refused(OpenAI.NotFoundError, () => chatted({ model: "nobody" })),
  "API key": () => refused(OpenAI.AuthenticationError, () => clientOf(asked.wrongKey).models.list()),
  "hang-up": hungUp,
  silence: () => chattedInPieces({ model: asked.held }),
  "silence with ids": () => chattedInPieces({ model: asked.held }, { headers: { "X-Chorus-Resume": "30" } }),
})

// The gateway as OpenAI's own client for Node sees it: a real cluster on the demo pair, and what the answers have to be is
// what Chorus's own client gets.
import { Effect } from "effect"
import OpenAI from "openai"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import type { Ending } from "../../src/client/index.ts"
import { open } from "../../src/model/index.ts"
import type { InferRequest } from "../../src/wire/infer.ts"
import { subjectsOf } from "../../src/wire/subjects.ts"
import { Cluster, DEMO } from "./cluster.ts"
import { chatModel, type Gateway, startGateway } from "./gateways.ts"
import { PROMPT } from "./requests.ts"

const model = "demo"
const base = chatModel()
let cluster: Cluster
let openai: OpenAI

const clientOf = (url: string | null, apiKey = "none") => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 })

beforeAll(async () => {
  // Two long sessions at a time, three that wait, and nothing that is kept when they have ended.
  const limits = { kvTokens: 1_100, queue: 3, keepMillis: 0 }
  cluster = await Cluster.start({ name: model, base: base.path, limits, gateway: { CHORUS_HTTP_PORT: "0" } })
  openai = clientOf(cluster.local.http)
})
afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]()
  base[Symbol.dispose]()
})

const usageOf = (prompt: number, completion: number) => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
  prompt_tokens_details: { cached_tokens: 0 }, // nothing is kept here
})

const collect = async <A>(stream: AsyncIterable<A>): Promise<ReadonlyArray<A>> => {
  const all: Array<A> = []
  for await (const one of stream) all.push(one)
  return all
}

describe("completions", () => {
  const request = { model, prompt: PROMPT, max_tokens: 24, temperature: 0 }
  let alone: Ending
  beforeAll(async () => {
    alone = await cluster.generate({ prompt: PROMPT, maxTokens: 24, temperature: 0 })
  })

  test("give what the session gives, and the usage", async () => {
    const { choices, usage, object } = await openai.completions.create(request)
    expect(choices).toEqual([{ index: 0, text: alone.text, finish_reason: "length", logprobs: null }])
    expect(usage).toEqual(usageOf(alone.stats.promptTokens, 24))
    expect(object).toBe("text_completion")
  })

  test("stream the same text in pieces, and the usage last where it is asked for", async () => {
    const stream_options = { include_usage: true }
    const chunks = await collect(await openai.completions.create({ ...request, stream: true, stream_options }))
    const choices = chunks.flatMap(({ choices }) => choices)
    expect(choices.length).toBeGreaterThan(2)
    expect(choices.map(({ text }) => text).join("")).toBe(alone.text)
    expect(choices.map(({ finish_reason }) => finish_reason).filter((reason) => reason !== null)).toEqual(["length"])
    expect(chunks.map(({ usage }) => usage).filter((usage) => usage !== null)).toEqual([
      usageOf(alone.stats.promptTokens, 24),
    ])
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1)
    const plain = await collect(await openai.completions.create({ ...request, stream: true }))
    expect(plain.every(({ usage }) => usage === undefined)).toBe(true)
  })

  test("end before a stop string, one or several", async () => {
    const stop = alone.text.slice(9, 13)
    const before = alone.text.slice(0, alone.text.indexOf(stop))
    for (const stops of [stop, ["never to be seen", stop]]) {
      const { choices } = await openai.completions.create({ ...request, stop: stops })
      expect(choices).toMatchObject([{ text: before, finish_reason: "stop" }])
    }
    const chunks = await collect(await openai.completions.create({ ...request, stop, stream: true }))
    expect(chunks.map(({ choices: [choice] }) => choice?.text).join("")).toBe(before)
  })

  test("give the same for the same seed, and n choices of which the first has the seed itself", async () => {
    const sampled = { ...request, temperature: 1, seed: 17 }
    const one = await openai.completions.create(sampled)
    const three = await openai.completions.create({ ...sampled, n: 3 })
    const streamed = await collect(await openai.completions.create({ ...sampled, n: 3, stream: true }))
    const texts = three.choices.map(({ text }) => text)
    expect(three.choices.map(({ index }) => index)).toEqual([0, 1, 2])
    expect(texts[0]).toBe(one.choices[0]?.text)
    expect(new Set(texts).size).toBe(3)
    const choices = streamed.flatMap(({ choices }) => choices)
    const textOf = (choice: number) => choices.filter(({ index }) => index === choice).map(({ text }) => text)
    expect([0, 1, 2].map((choice) => textOf(choice).join(""))).toEqual(texts)
    expect(three.usage).toEqual(usageOf(alone.stats.promptTokens, 72))
    const negative = await openai.completions.create({ ...sampled, seed: -1 })
    const own = await cluster.generate({ prompt: PROMPT, maxTokens: 24, temperature: 1, seed: 2n ** 64n - 1n })
    expect(negative.choices[0]?.text).toBe(own.text)
  })

  test("take seeds of 64 bits as they are, with a sign or without", async () => {
    const ask = async (seed: string) => {
      const body = JSON.stringify({ ...request, temperature: 1, seed: 0 }).replace('"seed":0', `"seed": ${seed}`)
      const answer = await fetch(`${cluster.local.http}/v1/completions`, {
        ...{ method: "POST", body, headers: { "content-type": "application/json" } },
      })
      return [answer.status, await answer.json()]
    }
    for (const seed of ["9007199254740993", "18446744073709551615", "-9223372036854775808", "9007199254740992"]) {
      const asked = { prompt: PROMPT, maxTokens: 24, temperature: 1, seed: BigInt.asUintN(64, BigInt(seed)) }
      const { text } = await cluster.generate(asked)
      expect(await ask(seed)).toMatchObject([200, { choices: [{ text }] }])
    }
    for (const seed of ["18446744073709551616", "-9223372036854775809", "1e30", "0.5"]) {
      const error = {
        param: "seed",
        message: expect.stringMatching(/^seed: has to be an integer from -2\^63 to 2\^64 - 1/),
      }
      expect(await ask(seed)).toMatchObject([400, { error }])
    }
  })

  test("have penalties, biases, a least number of tokens and ends that are ignored, as over NATS", async () => {
    const [end = 0] = (await Effect.runPromise(open(DEMO.base))).ends
    const free = await cluster.generate({ prompt: PROMPT, maxTokens: 24, temperature: 0.9, seed: 4n })
    const same: ReadonlyArray<readonly [object, InferRequest]> = [
      [
        { presence_penalty: 1.5, frequency_penalty: -0.5 },
        { presencePenalty: 1.5, frequencyPenalty: -0.5 },
      ],
      [{ repeat_penalty: 1.3 }, { repetitionPenalty: 1.3 }],
      [{ repeat_penalty: 1.3, repetition_penalty: 1.5 }, { repetitionPenalty: 1.5 }],
      [{ logit_bias: { 13: -100, 285: 4.5 } }, { logitBias: { 13: -100, 285: 4.5 } }],
      [
        { logit_bias: { [end]: 50 }, min_tokens: 9 },
        { logitBias: { [end]: 50 }, minTokens: 9 },
      ],
      [
        { logit_bias: { [end]: 30 }, ignore_eos: true },
        { logitBias: { [end]: 30 }, ignoreEos: true },
      ],
    ]
    const texts = new Set([free.text])
    for (const [asked, over] of same) {
      const sampled = { ...request, temperature: 0.9, seed: 4, ...asked }
      const { choices, usage } = await openai.post<OpenAI.Completion>("/completions", { body: sampled })
      const { text, tokens, finishReason } = await cluster.generate({
        ...{ prompt: PROMPT, maxTokens: 24, temperature: 0.9, seed: 4n, ...over },
      })
      expect(choices).toMatchObject([{ text, finish_reason: finishReason }])
      expect(usage?.completion_tokens).toBe(tokens.length)
      texts.add(text)
    }
    expect(texts.size).toBeGreaterThan(4) // they were at work
    const all = await openai.post<OpenAI.Completion>("/completions", {
      body: { ...request, temperature: 0.9, seed: 4, top_k: -1 },
    })
    expect(all.choices[0]?.text).toBe(free.text)
  })

  test("take several prompts, and tokens instead of text", async () => {
    const prompts = [PROMPT, "import { join } from "]
    const { choices, usage } = await openai.completions.create({ ...request, prompt: prompts })
    const second = await cluster.generate({ prompt: "import { join } from ", maxTokens: 24, temperature: 0 })
    expect(choices.map(({ text }) => text)).toEqual([alone.text, second.text])
    expect(usage).toEqual(usageOf(alone.stats.promptTokens + second.stats.promptTokens, 48))
    const tokens = alone.tokens.slice(0, 8)
    const continued = await openai.completions.create({ ...request, prompt: tokens, max_tokens: 4 })
    const own = await cluster.generate({ tokens, maxTokens: 4, temperature: 0 })
    expect(continued.choices[0]?.text).toBe(own.text)
  })

  test("log-probabilities are those of the session, whole and streamed", async () => {
    const asked = { ...request, max_tokens: 8, logprobs: 3 }
    const own = await cluster.generate({ prompt: PROMPT, maxTokens: 8, temperature: 0, logprobs: 3 })
    const [choice] = (await openai.completions.create(asked)).choices
    expect(choice?.text).toBe(own.text)
    expect(choice?.logprobs?.token_logprobs).toEqual(own.logProbs?.map(({ logProb }) => logProb))
    expect(choice?.logprobs?.tokens?.join("")).toBe(own.text)
    const offsets = choice?.logprobs?.text_offset ?? []
    expect(offsets.map((offset, i) => own.text.slice(offset, offsets[i + 1]))).toEqual(choice?.logprobs?.tokens)
    const best = choice?.logprobs?.top_logprobs?.map((top) => Math.max(...Object.values(top)))
    expect(best).toEqual(choice?.logprobs?.token_logprobs) // at temperature 0 the most probable is chosen
    const chunks = await collect(await openai.completions.create({ ...asked, stream: true }))
    const streamed = chunks.flatMap(({ choices }) => choices.map(({ logprobs }) => logprobs))
    expect(streamed.flatMap((logprobs) => logprobs?.token_logprobs ?? [])).toEqual(choice?.logprobs?.token_logprobs)
    expect(streamed.flatMap((logprobs) => logprobs?.text_offset ?? [])).toEqual(offsets)
  })

  test("16 tokens are the default, as with OpenAI, and what the context leaves near its end", async () => {
    const { usage } = await openai.completions.create({ model, prompt: PROMPT, seed: 1 })
    expect(usage?.completion_tokens).toBeLessThanOrEqual(16)
    const tokens = Array.from({ length: 505 }, (_, i) => 20 + (i % 50))
    const near = await openai.completions.create({ model, prompt: tokens, temperature: 0 })
    expect(near.choices[0]?.finish_reason).toBe("length")
    expect(near.usage?.completion_tokens).toBe(7)
  })

  test("echo tells the prompt and its log-probabilities, whole and streamed, of texts and of tokens", async () => {
    const own = await cluster.generate({ prompt: PROMPT, maxTokens: 6, temperature: 0, logprobs: 1, promptLogprobs: 1 })
    const ids = (own.prompt ?? []).map(({ id }) => id)
    const scores = [...(own.prompt ?? []), ...(own.logProbs ?? [])].map(({ logProb = null }) => logProb)
    const asked = { ...request, max_tokens: 6, echo: true, logprobs: 1 }
    for (const prompt of [PROMPT, ids]) {
      const { choices, usage } = await openai.completions.create({ ...asked, prompt })
      const [choice] = choices
      const offset = choice?.logprobs?.text_offset ?? []
      expect(choice?.text).toBe(PROMPT + own.text)
      expect(choice?.logprobs?.token_logprobs).toEqual(scores)
      expect(choice?.logprobs?.top_logprobs?.[0]).toBeNull()
      expect(choice?.logprobs?.tokens?.join("")).toBe(PROMPT + own.text)
      expect(offset.map((at, i) => (PROMPT + own.text).slice(at, offset[i + 1]))).toEqual(choice?.logprobs?.tokens)
      expect(usage).toEqual(usageOf(ids.length, 6))
      const chunks = await collect(await openai.completions.create({ ...asked, prompt, stream: true }))
      const parts = chunks.flatMap(({ choices }) => choices)
      expect(parts.map(({ text }) => text).join("")).toBe(PROMPT + own.text)
      expect(parts.flatMap(({ logprobs }) => logprobs?.token_logprobs ?? [])).toEqual(scores)
      expect(parts.flatMap(({ logprobs }) => logprobs?.text_offset ?? [])).toEqual(offset)
    }
    for (const prompt of [PROMPT, ids]) {
      const [bare] = (await openai.completions.create({ ...request, max_tokens: 6, echo: true, prompt })).choices
      expect([bare?.text, bare?.logprobs]).toEqual([PROMPT + own.text, null])
    }
  })

  test("the prompt alone has log-probabilities too, those of an answer that would be", async () => {
    const asked = { ...request, max_tokens: 0, echo: true, logprobs: 2 }
    const before = await cluster.generate({ prompt: PROMPT, maxTokens: 0, promptLogprobs: 0 })
    const ids = (before.prompt ?? []).map(({ id }) => id)
    const answers = [alone.tokens, alone.tokens.slice(0, 9)]
    const prompt = answers.map((tokens) => [...ids, ...tokens])
    const { choices, usage } = await openai.completions.create({ ...asked, prompt })
    expect(usage?.completion_tokens).toBe(0)
    for (const [i, { text, finish_reason, logprobs }] of choices.entries()) {
      expect([finish_reason, logprobs?.tokens?.length]).toEqual(["length", prompt[i]?.length])
      expect(text).toBe(
        PROMPT + Buffer.concat((logprobs?.tokens ?? []).slice(ids.length).map((one) => Buffer.from(one))),
      )
      // As lm-evaluation-harness finds out whether an answer is the greedy one.
      const of = logprobs?.token_logprobs?.slice(ids.length) ?? []
      expect(
        of.every((one, at) => one === Math.max(...Object.values(logprobs?.top_logprobs?.[ids.length + at] ?? {}))),
      ).toBe(true)
    }
  })

  test("the usage comes with each event where it is asked for", async () => {
    const stream_options = { include_usage: true, continuous_usage_stats: true }
    const chunks = await collect(await openai.completions.create({ ...request, n: 2, stream: true, stream_options }))
    const counts = chunks.map(({ usage }) => usage?.completion_tokens ?? -1)
    expect(counts).toEqual(counts.toSorted((a, b) => a - b))
    expect(counts[0]).toBeGreaterThan(0)
    expect(counts.at(-1)).toBe(48)
    const chat = { model, messages: [{ role: "user" as const, content: "x" }], max_tokens: 4 }
    const told = await collect(await openai.chat.completions.create({ ...chat, stream: true, stream_options }))
    expect(told.map(({ usage }) => usage?.prompt_tokens)).toEqual(told.map(() => told.at(-1)?.usage?.prompt_tokens))
  })
})

describe("chat", () => {
  const messages = [{ role: "user" as const, content: "Say something." }]
  const request = { model, messages, max_completion_tokens: 20, temperature: 0 }

  test("answers, whole and streamed, what the session gives", async () => {
    const alone = await cluster.generate({ messages, maxTokens: 20, temperature: 0 })
    const { choices, usage } = await openai.chat.completions.create(request)
    const message = { role: "assistant", content: alone.text, refusal: null }
    expect(choices).toEqual([{ index: 0, message, logprobs: null, finish_reason: alone.finishReason }])
    expect(usage).toEqual(usageOf(alone.stats.promptTokens, alone.tokens.length))

    const chunks = await collect(await openai.chat.completions.create({ ...request, stream: true }))
    expect(chunks[0]?.choices[0]?.delta.role).toBe("assistant")
    expect(chunks.map(({ choices: [choice] }) => choice?.delta.content ?? "").join("")).toBe(alone.text)
    expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe(alone.finishReason)
  })

  test("tells log-probabilities with as many alternatives as are asked for", async () => {
    const asked = { ...request, max_completion_tokens: 6, logprobs: true }
    const own = await cluster.generate({ messages, maxTokens: 6, temperature: 0, logprobs: 2 })
    const [choice] = (await openai.chat.completions.create({ ...asked, top_logprobs: 2 })).choices
    const content = choice?.logprobs?.content ?? []
    expect(content.map(({ logprob }) => logprob)).toEqual(own.logProbs?.map(({ logProb }) => logProb))
    expect(content.map(({ token }) => token).join("")).toBe(choice?.message.content)
    expect(Buffer.from(content.flatMap(({ bytes }) => bytes ?? [])).toString()).toBe(choice?.message.content)
    expect(content.map(({ top_logprobs }) => top_logprobs.length)).toEqual(content.map(() => 2))
    const [bare] = (await openai.chat.completions.create(asked)).choices
    expect(bare?.logprobs?.content?.map(({ logprob }) => logprob)).toEqual(content.map(({ logprob }) => logprob))
    expect(bare?.logprobs?.content?.flatMap(({ top_logprobs }) => top_logprobs)).toEqual([])
  })

  test("its template is told what chat_template_kwargs say, which cannot be structure", async () => {
    const ask = (chat_template_kwargs: object) =>
      openai.post<OpenAI.ChatCompletion>("/chat/completions", { body: { ...request, chat_template_kwargs } })
    const { choices } = await ask({ kind: "interface ", other: { list: [1, null, true] } })
    const prompt = "// user: Say something.\nexport interface "
    const own = await cluster.generate({ prompt, maxTokens: 20, temperature: 0 })
    expect(choices[0]?.message.content).toBe(own.text)
    const refused = (wrong: object) => ask(wrong).catch((error: unknown) => error)
    for (const wrong of [{ kind: "<|endoftext|>" }, { messages: [] }, { bos_token: "x" }]) {
      expect(await refused(wrong)).toMatchObject({ status: 400, message: expect.stringMatching(/argument/) })
    }
    expect(await refused(Object("x"))).toMatchObject({ status: 400, param: "chat_template_kwargs" })
  })

  test("goes on to the end of the context where no length is given", async () => {
    const asked = { model, messages, temperature: 1.2, seed: 3, min_tokens: 300 }
    const { choices, usage } = await openai.chat.completions.create(asked)
    const { finish_reason } = choices[0] ?? {}
    expect(usage?.completion_tokens).toBeGreaterThanOrEqual(300)
    if (finish_reason === "length") expect(usage?.total_tokens).toBe(512)
  })

  test("the client's own streaming helper understands it", async () => {
    const runner = openai.chat.completions.stream({ ...request, stream_options: { include_usage: true } })
    const final = await runner.finalChatCompletion()
    const { choices, usage } = await openai.chat.completions.create(request)
    expect(final.choices[0]?.message.content).toBe(choices[0]?.message.content)
    expect(await runner.totalUsage()).toEqual(usage)
  })

  test("an answer is taken back as it was given, content may come in parts, and a developer is a system", async () => {
    const first = await openai.chat.completions.create(request)
    const answer = first.choices[0]?.message
    if (answer === undefined) throw new Error("no choice")
    const turn = { role: "user" as const, content: "And then?" }
    const next = await openai.chat.completions.create({ ...request, messages: [...messages, answer, turn] })
    const parts = {
      role: "user" as const,
      content: [
        { type: "text" as const, text: "And " },
        { type: "text" as const, text: "then?" },
      ],
    }
    const same = await openai.chat.completions.create({ ...request, messages: [...messages, answer, parts] })
    expect(same.choices[0]?.message.content).toBe(next.choices[0]?.message.content)
    const by = (role: "system" | "developer") =>
      openai.chat.completions.create({ ...request, messages: [{ role, content: "Be brief." }, ...messages] })
    expect((await by("developer")).usage).toEqual((await by("system")).usage)
  })
})

test("every answer says what decides its bits, in each of its objects and from every gateway", async () => {
  await using other = await startGateway(cluster.local)
  const clients = [openai, clientOf(other.url)]
  const messages = [{ role: "user" as const, content: "Say something." }]
  const [text, chat] = [
    { model, prompt: PROMPT, max_tokens: 4 },
    { model, messages, max_tokens: 4 },
  ]
  const known = async () => (await clientOf(other.url).completions.create(text)).system_fingerprint
  await expect.poll(known).toBeDefined() // a gateway that has just started waits for the first beats
  const answers = await Promise.all(
    clients.flatMap((client) => [
      client.completions.create(text).then((whole) => [whole]),
      client.chat.completions.create(chat).then((whole) => [whole]),
      client.completions.create({ ...text, stream: true }).then((stream) => collect<object>(stream)),
      client.chat.completions.create({ ...chat, stream: true }).then((stream) => collect<object>(stream)),
    ]),
  )
  const prints = answers.flat().map((object) => ("system_fingerprint" in object ? object.system_fingerprint : null))
  expect(prints.length).toBeGreaterThan(20)
  expect(new Set(prints).size).toBe(1)
  expect(prints[0]).toMatch(/^fp_[0-9a-f]{16}$/)
})

test("models are the deployments that are served", async () => {
  const models = await collect(await openai.models.list())
  const default_sampling = { temperature: 1, top_p: 1, top_k: 0, min_p: 0, repetition_penalty: 1 }
  const about = { id: model, object: "model", created: expect.any(Number), owned_by: "chorus" }
  expect(models).toEqual([{ ...about, context_length: 512, default_sampling }])
  expect(await openai.models.retrieve(model)).toEqual(models[0])
  await expect(openai.models.retrieve("nobody")).rejects.toThrow(OpenAI.NotFoundError)
})

test("what is not given is sampled as the model's files want it, which /v1/models shows, and else as OpenAI does", async () => {
  const asked = { prompt: PROMPT, maxTokens: 16, seed: 6n }
  const plain = await openai.completions.create({ model, prompt: PROMPT, max_tokens: 16, seed: 6 })
  expect(plain.choices[0]?.text).toBe((await cluster.generate({ ...asked, temperature: 1 })).text)
  const off = { top_p: 1, top_k: 0, min_p: 0, repetition_penalty: 1 }
  expect(await openai.models.retrieve(model)).toMatchObject({ default_sampling: { temperature: 1, ...off } })

  using own = chatModel({ do_sample: true, temperature: 0.6, top_k: 20, top_p: 0.8, repetition_penalty: 1.1 })
  const options = { name: "wants", base: own.path, draft: null, gateway: { CHORUS_HTTP_PORT: "0" } }
  await using other = await Cluster.start(options)
  const client = clientOf(other.local.http)
  const wanted = { temperature: 0.6, top_k: 20, top_p: 0.8, repetition_penalty: 1.1, min_p: 0 }
  const told = () => client.models.retrieve("wants").catch(() => null) // until its supervisor is heard
  await expect.poll(told).toMatchObject({ default_sampling: wanted })
  const generation = await other.client.generate(asked)
  expect(generation.sampling).toEqual({ temperature: 0.6, topK: 20, topP: 0.8, minP: 0, repetitionPenalty: 1.1 })
  const { text } = await generation.ending()
  const settings = { temperature: 0.6, topK: 20, topP: 0.8, repetitionPenalty: 1.1 }
  expect((await cluster.generate({ ...asked, ...settings })).text).toBe(text)
  const body = { model: "wants", prompt: PROMPT, max_tokens: 16, seed: 6 }
  expect((await client.completions.create(body)).choices[0]?.text).toBe(text)
  const greedy = await client.completions.create({ ...body, temperature: 0 })
  const penalised = await cluster.generate({ ...asked, temperature: 0, repetitionPenalty: 1.1 })
  expect(greedy.choices[0]?.text).toBe(penalised.text)
  expect((await other.client.find(generation.session)).sampling).toEqual(generation.sampling)
})

describe("refusals", () => {
  const refusal = async (asked: object): Promise<InstanceType<typeof OpenAI.APIError>> => {
    const body = { model, prompt: PROMPT, ...asked }
    const error: unknown = await openai.post("/completions", { body }).catch((error) => error)
    if (error instanceof OpenAI.APIError) return error
    throw new Error("it was not refused")
  }
  const cases: ReadonlyArray<readonly [string, object, number, object, RegExp]> = [
    [
      "a model that is not served",
      { model: "nobody" },
      404,
      { code: "model_not_found", param: "model" },
      /There is demo/,
    ],
    ["a field that is not supported", { suffix: "x" }, 400, { param: "suffix" }, /is not supported here: leave it out/],
    ["another server's field", { guided_regex: "a+" }, 400, { param: "guided_regex" }, /is not supported here/],
    ["a name of another server's", { n_predict: 8 }, 400, { param: "n_predict" }, /max_tokens is its name here/],
    ["a prompt that is none", { prompt: { text: "x" } }, 400, { param: "prompt" }, /a text, a list of tokens/],
    ["a value out of range", { temperature: 3 }, 400, { param: "temperature" }, /between 0 and 2/],
    ["a value of another type", { max_tokens: "8" }, 400, { param: "max_tokens" }, /expected number/],
    ["a penalty out of range", { presence_penalty: -2.5 }, 400, { param: "presence_penalty" }, /between -2 and 2/],
    [
      "a bias of no token",
      { logit_bias: { 50257: 1 } },
      400,
      { param: "logit_bias.50257" },
      /^400 logit_bias\.50257: is not a token: the vocabulary has \d+ tokens/,
    ],
    [
      "more tokens at least than at most",
      { max_tokens: 4, min_tokens: 5 },
      400,
      { param: "min_tokens" },
      /more than the 4 tokens/,
    ],
    ["what a supervisor refuses", { prompt: [1, 999_999] }, 400, { param: "prompt[1]" }, /vocabulary/],
    ["more than the context", { max_tokens: 600 }, 400, { code: "context_length_exceeded" }, /lower max_tokens/],
  ]
  test.each(cases)("%s", async (_, asked, status, expected, message) => {
    const error = await refusal(asked)
    expect(error.status).toBe(status)
    expect(error.error).toMatchObject({ type: "invalid_request_error", ...expected })
    expect(error.message).toMatch(message)
  })

  const message = { role: "user", content: "x" }
  const chats: ReadonlyArray<readonly [string, object, string, RegExp]> = [
    ["a field of a message", { messages: [message, { ...message, content: 5 }] }, "messages[1].content", /a text, or/],
    ["another role", { messages: [{ ...message, role: "tool" }] }, "messages[0].role", /system, developer, user/],
    [
      "a part that is no text",
      { messages: [{ ...message, content: [{ type: "image_url", image_url: {} }] }] },
      "messages[0].content[0].type",
      /has to be "text"/,
    ],
    ["tools", { tools: [{ type: "function", function: { name: "f" } }] }, "tools", /not supported here: leave it out$/],
    [
      "another form of answers",
      { response_format: { type: "json_object" } },
      "response_format",
      /leave it out, or give \{"type":"text"\}/,
    ],
    ["a call of a tool", { messages: [{ ...message, tool_calls: [{}] }] }, "messages[0].tool_calls", /leave it out/],
  ]
  test.each(chats)("%s is named with its place, and refused in words", async (_, asked, param, reason) => {
    const body = { model, messages: [message], ...asked }
    const error: unknown = await openai.post("/chat/completions", { body }).catch((error) => error)
    expect(error).toMatchObject({ status: 400, param, message: expect.stringMatching(reason) })
  })
})

describe("unknown fields", () => {
  const asked = { model, messages: [{ role: "user", content: "x", mood: 1 }], max_tokens: 2, tempo: 1, "a\nb": 2 }
  const ask = (url: string | null, body: object) =>
    fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    })

  test("are ignored, and named in a header, whole and streamed; what has no consequence is not", async () => {
    for (const stream of [false, true]) {
      const answer = await ask(cluster.local.http, {
        ...asked,
        stream,
        store: true,
        metadata: { a: "b" },
        keep_alive: 5,
      })
      expect([answer.status, answer.headers.get("x-chorus-ignored")]).toEqual([200, "messages[].mood, tempo, a%0Ab"])
      await answer.text()
    }
    const plain = await ask(cluster.local.http, { model, messages: [{ role: "user", content: "x" }], max_tokens: 2 })
    expect(plain.headers.get("x-chorus-ignored")).toBeNull()
  })

  test("are said once in the log, and refused where the gateway is strict", async () => {
    await using gateway = await startGateway(cluster.local)
    for (let i = 0; i < 3; i++) await (await ask(gateway.url, asked)).text()
    await expect.poll(() => gateway.said()).toMatch(/not known here and is ignored: a%0Ab/)
    expect(gateway.said().match(/is ignored: tempo/g)).toHaveLength(1)
    await using strict = await startGateway(cluster.local, { CHORUS_HTTP_STRICT: "1" })
    const refused = await ask(strict.url, { ...asked, messages: [{ role: "user", content: "x" }] })
    expect(refused.status).toBe(400)
    expect(await refused.json()).toMatchObject({ error: { param: "tempo", message: expect.stringMatching(/strict/) } })
  })
})

/** What the ranks say of their sessions, as /metrics has it. */
const sessionsOnRanks = async (): Promise<ReadonlyArray<number>> => {
  const page = await (await fetch(`${cluster.local.http}/metrics`)).text()
  return [...page.matchAll(/^chorus_rank_sessions\{.*\} (\d+)$/gm)].map(([, count]) => Number(count))
}

test("what is too much is refused with 429 and a time to come again, all choices together", async () => {
  const request = { model, prompt: PROMPT, max_tokens: 450, temperature: 1, n: 8 }
  const error: unknown = await openai.completions.create(request).catch((error) => error)
  expect(error).toBeInstanceOf(OpenAI.RateLimitError)
  expect(error).toMatchObject({ status: 429, code: "overloaded", type: "rate_limit_error" })
  if (error instanceof OpenAI.APIError) expect(Number(error.headers?.get("retry-after-ms"))).toBeGreaterThan(0)
  // The others of them are cancelled, so there is room again.
  const small = () => openai.completions.create({ ...request, n: 1, max_tokens: 2 }).catch((error) => error)
  await expect.poll(small).toMatchObject({ usage: { completion_tokens: 2 } })
  await expect.poll(sessionsOnRanks).toEqual([0, 0, 0])
})

describe("a client that goes away", () => {
  const long = { model, prompt: PROMPT, max_tokens: 450, temperature: 1, seed: 3 }

  test.each([true, false])("cancels its sessions and frees their KV, streaming: %s", async (stream) => {
    const subjects = subjectsOf(model)
    const ends: Array<string> = []
    const cancelled = new Promise<void>((resolve) => {
      cluster.client.connection.subscribe(subjects.cancel("*"), {
        callback: (_, { subject }) => {
          ends.push(subject)
          if (new Set(ends).size === 2) resolve()
        },
      })
    })
    const overseer = await cluster.dial()
    const spoken = new Promise<void>((resolve) => {
      overseer.subscribe(subjects.tokens("*"), { callback: () => resolve() })
    })
    await overseer.flush()
    const controller = new AbortController()
    const asked = openai.completions.create({ ...long, n: 2, stream }, { signal: controller.signal })
    if (stream) {
      const answer = await asked
      if (Symbol.asyncIterator in answer) for await (const _ of answer) break // which hangs up
    } else {
      await spoken
      controller.abort()
      await expect(asked).rejects.toThrow(OpenAI.APIUserAbortError)
    }
    await cancelled
    await overseer.close()
    await expect.poll(sessionsOnRanks).toEqual([0, 0, 0])
  })
})

describe("limits and keys", () => {
  const keys = "alice sk-alice\nsk-other # somebody's"
  let guarded: Gateway
  beforeAll(async () => {
    guarded = await startGateway(cluster.local, {
      CHORUS_API_KEYS: keys.replace("\n", ",").replace(/ #.*/, ""),
      CHORUS_HTTP_RATE_LIMIT: "3",
      CHORUS_HTTP_CORS_ORIGINS: "https://app.example",
    })
  })
  afterAll(() => guarded?.[Symbol.asyncDispose]())
  const request = { model, prompt: PROMPT, max_tokens: 2 }

  test("a request without a known key is refused, and the key is said nowhere", async () => {
    const error: unknown = await clientOf(guarded.url, "sk-wrong")
      .completions.create(request)
      .catch((error) => error)
    expect(error).toBeInstanceOf(OpenAI.AuthenticationError)
    expect(error).toMatchObject({ status: 401, code: "invalid_api_key" })
    const bare = await fetch(`${guarded.url}/v1/models`)
    expect(bare.status).toBe(401)
    expect(bare.headers.get("www-authenticate")).toBe("Bearer")
    const open = () => Promise.all(["/healthz", "/readyz", "/metrics"].map((path) => fetch(guarded.url + path)))
    await expect.poll(async () => (await open()).map(({ status }) => status)).toEqual([200, 200, 200])
    expect(guarded.said()).not.toMatch(/sk-/)
  })

  test("a key may come as x-api-key too", async () => {
    const statusOf = async (headers: Record<string, string>) =>
      (await fetch(`${guarded.url}/v1/models`, { headers })).status
    expect(await statusOf({ "x-api-key": "sk-other" })).toBe(200)
    expect(await statusOf({ "x-api-key": "sk-other", authorization: "Bearer none" })).toBe(200)
    expect(await statusOf({ "x-api-key": "sk-wrong" })).toBe(401)
  })

  test("each key has its own rate, and 429 says when to come again", async () => {
    const alice = clientOf(guarded.url, "sk-alice")
    for (let i = 0; i < 3; i++) await alice.completions.create(request)
    const error: unknown = await alice.completions.create(request).catch((error) => error)
    expect(error).toBeInstanceOf(OpenAI.RateLimitError)
    expect(error).toMatchObject({ status: 429, code: "rate_limit_exceeded" })
    if (error instanceof OpenAI.APIError) expect(Number(error.headers?.get("retry-after"))).toBeGreaterThan(0)
    await clientOf(guarded.url, "sk-other").completions.create(request)
  })

  test("only the pages of the origins that were named may ask", async () => {
    const preflight = await fetch(`${guarded.url}/v1/completions`, {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-os",
      },
    })
    expect(preflight.headers.get("access-control-allow-origin")).toBe("https://app.example")
    expect(preflight.headers.get("access-control-allow-headers")).toContain("x-stainless-os")
    const refused = await fetch(`${guarded.url}/v1/models`, { headers: { origin: "https://app.example" } })
    expect([refused.status, refused.headers.get("access-control-allow-origin")]).toEqual([401, "https://app.example"])
    const closed = await fetch(`${cluster.local.http}/v1/models`, { headers: { origin: "https://app.example" } })
    expect(closed.headers.get("access-control-allow-origin")).toBeNull()
  })

  test("an answer that takes too long is ended, and its session with it", async () => {
    await using hurried = await startGateway(cluster.local, { CHORUS_HTTP_TIMEOUT: "0.05" })
    const client = clientOf(hurried.url)
    const long = { ...request, max_tokens: 450, ignore_eos: true }
    await expect(client.completions.create(long)).rejects.toMatchObject({ status: 504, code: "timeout" })
    const stream = await client.completions.create({ ...long, stream: true })
    await expect(collect(stream)).rejects.toMatchObject({ code: "timeout" })
    await expect.poll(sessionsOnRanks).toEqual([0, 0, 0])
  })
})

test("metrics count what went through, in Prometheus' form", async () => {
  const page = await (await fetch(`${cluster.local.http}/metrics`)).text()
  const value = (sample: string) => Number(new RegExp(`^${sample} (\\S+)$`, "m").exec(page)?.[1])
  expect(value('chorus_http_requests_total\\{route="/v1/completions",status="200"\\}')).toBeGreaterThan(5)
  expect(value('chorus_gateway_tokens_total\\{model="demo",kind="generated"\\}')).toBeGreaterThan(100)
  expect(value('chorus_time_to_first_token_seconds_count\\{model="demo"\\}')).toBeGreaterThan(5)
  expect(value('chorus_inter_token_seconds_bucket\\{model="demo",le="\\+Inf"\\}')).toBeGreaterThan(100)
  expect(value('chorus_passes_total\\{model="demo",kind="prefill"\\}')).toBeGreaterThan(5)
  expect(value('chorus_rank_ready\\{deployment="demo",epoch="1",group="base",rank="0",device="CPU.*"\\}')).toBe(1)
  expect(value('chorus_supervisor_tokens_total\\{deployment="demo",supervisor="\\w+"\\}')).toBeGreaterThan(100)
  expect(value('chorus_supervisor_kv_tokens\\{deployment="demo",supervisor="\\w+"\\}')).toBe(1_100)
  expect(value('chorus_supervisor_refused_total\\{deployment="demo",supervisor="\\w+"\\}')).toBeGreaterThan(0)
  for (const line of page.trim().split("\n")) {
    expect(line).toMatch(/^(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)*\})? (-?[\d.e+-]+|\+Inf|NaN))$/)
  }
})

test("ready while the ranks answer; without a supervisor it says 503 and when to come again", async () => {
  const ready = async () => (await fetch(`${cluster.local.http}/readyz`)).status
  await expect.poll(ready).toBe(200)
  process.kill(cluster.local.pids.supervisor, "SIGTERM")
  const one = { model, prompt: PROMPT, max_tokens: 1 }
  // A request that the supervisor took just before its end gets no answer.
  const ask = () => openai.completions.create(one, { timeout: 2_000 }).catch((error) => error)
  await expect.poll(ask, { timeout: 30_000 }).toMatchObject({ status: 503, code: "not_served" })
  process.kill(cluster.local.pids.base[0] ?? 0, "SIGKILL")
  await expect.poll(ready).toBe(503)
  expect((await fetch(`${cluster.local.http}/healthz`)).status).toBe(200)
})

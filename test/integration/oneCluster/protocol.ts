// What docs/PROTOCOL.md promises to clients of any make: how services present themselves and count, codes of refusals, the
// token log's retention, and log-probabilities that speculation does not change.
import { jetstreamManager, StorageType } from "@nats-io/jetstream"
import { connect as dial, nanos } from "@nats-io/transport-node"
import { Effect, Exit, Layer, Result, Scope } from "effect"
import { beforeAll, describe, expect, test } from "vitest"
import { Nats } from "../../../src/bus/nats.ts"
import { start as startServer } from "../../../src/natsServer/natsServer.ts"
import { onNats } from "../../../src/store/jetStream.ts"
import { TokenLog, type TokenLogOptions } from "../../../src/store/tokenLog.ts"
import { codec } from "../../../src/wire/codec.ts"
import { InferAnswer, InferRequest, type LoggedToken, logProbsOf } from "../../../src/wire/infer.ts"
import { subjectsOf, TOKEN_STREAM, TOKEN_STREAM_SUBJECTS } from "../../../src/wire/subjects.ts"
import { Cluster } from "../cluster.ts"
import { PROMPT, TREE } from "../requests.ts"
import { oneCluster } from "./cluster.ts"

const requests = codec("infer request", InferRequest)
const answers = codec("infer answer", InferAnswer)

describe("one deployment", () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await oneCluster()
  })

  const infer = async (request: InferRequest) => {
    const { infer } = subjectsOf("test")
    const reply = await cluster.client.connection.request(infer, requests.encode(request), { timeout: 20_000 })
    const { headers, data } = reply
    return { code: headers?.get("Nats-Service-Error-Code") ?? "", answer: Result.getOrThrow(answers.decode(data)) }
  }

  test("$SRV.INFO tells the endpoint with its schemas, $SRV.STATS what it has done", async () => {
    const { connection } = cluster.client
    const info = (await connection.request("$SRV.INFO.chorus-infer", "")).json<Info>()
    expect(info).toMatchObject({ name: "chorus-infer", type: "io.nats.micro.v1.info_response" })
    expect(info.metadata).toMatchObject({ deployment: "test", context: "512", deterministic: "true" })
    const [endpoint, ...others] = info.endpoints
    expect(others).toEqual([])
    expect(endpoint).toMatchObject({ name: "infer", subject: "chorus.v1.test.infer", queue_group: "supervisors" })
    const request = JSON.parse(endpoint?.metadata.request_schema ?? "")
    expect(Object.keys(request.properties)).toEqual(Object.keys(InferRequest.fields))
    expect(request).toMatchObject({ type: "object", additionalProperties: false })
    expect(request.properties.logprobs).toEqual({ type: "integer", minimum: 0, maximum: 20 })
    const response = JSON.parse(endpoint?.metadata.response_schema ?? "")
    const tags = response.anyOf.map((one: { properties: { _tag: { enum: [string] } } }) => one.properties._tag.enum[0])
    expect(tags).toEqual(["Accepted", "Answered", "Refused"])
    expect(Object.keys(response.$defs)).toContain("InvalidRequestEncoded")

    const before = await statsOf(cluster)
    await infer({ prompt: PROMPT, maxTokens: 24 })
    await infer({ prompt: PROMPT, topP: 2 })
    const after = await statsOf(cluster)
    expect(after.num_requests - before.num_requests).toBe(2)
    expect(after.num_errors - before.num_errors).toBe(1)
    expect(after.last_error).toBe("InvalidRequest")
    expect(after.processing_time).toBeGreaterThan(before.processing_time)
  })

  test("a refusal has one of HTTP's codes beside its tag, an answer has none", async () => {
    expect(await infer({ prompt: PROMPT, topP: 2 })).toMatchObject({ code: "400", answer: { _tag: "Refused" } })
    expect(await infer({ prompt: PROMPT, maxTokens: 600 })).toMatchObject({
      ...{ code: "400", answer: { error: { _tag: "ContextExceeded" } } },
    })
    expect(await infer({ prompt: PROMPT, interestMillis: 500 })).toMatchObject({
      ...{ code: "400", answer: { error: { _tag: "InvalidRequest", field: "interestMillis" } } },
    })
    expect(await infer({ prompt: PROMPT, maxTokens: 2 })).toMatchObject({ code: "", answer: { _tag: "Answered" } })
    expect(await infer({ prompt: PROMPT, maxTokens: 2, stream: true })).toMatchObject({
      ...{ code: "", answer: { _tag: "Accepted" } },
    })
  })

  const asked: ReadonlyArray<readonly [string, InferRequest]> = [
    ["greedy", {}],
    ["at temperature 1.2, with every setting", { temperature: 1.2, topK: 50, topP: 0.95, minP: 0.01, seed: 9n }],
    ["with a penalty", { temperature: 0.8, repetitionPenalty: 1.2, seed: 3n }],
    ["with biases and penalties", { temperature: 0.8, frequencyPenalty: 1, logitBias: { 13: -3, 285: 2 }, seed: 3n }],
  ]
  test.each(asked)("log-probabilities are the same bits with speculation as without: %s", async (_, settings) => {
    const request: InferRequest = { prompt: PROMPT, maxTokens: 32, logprobs: 5, ...settings }
    const plain = await tokensOf(cluster, { ...request, speculation: "none" })
    const speculated = await tokensOf(cluster, { ...request, speculation: TREE })
    expect(speculated.map(({ origin }) => origin)).toContain("drafted")
    expect(speculated.flatMap(logProbsOf)).toEqual(plain.flatMap(logProbsOf))
    for (const { id, logProb, top } of plain) {
      if (logProb === undefined || top === undefined) throw new Error(`token ${id} has none`)
      expect(top).toHaveLength(5)
      const sorted = top.map((one) => one.logProb).toSorted((a, b) => b - a)
      expect(top.map((one) => one.logProb)).toEqual(sorted)
      expect(top.reduce((sum, one) => sum + Math.exp(one.logProb), 0)).toBeLessThanOrEqual(1.0001)
      const chosen = top.find((one) => one.id === id)
      if (chosen !== undefined) expect(chosen.logProb).toBe(logProb)
      if (settings.temperature === undefined) expect(top[0]?.id).toBe(id) // argmax
    }
    const { answer } = await infer({ ...request, speculation: TREE })
    expect(answer._tag === "Answered" && answer.logProbs).toEqual(plain.flatMap(logProbsOf))
  })

  test("and the same bits where the base is a pipeline of two ranks", async () => {
    const request: InferRequest = { prompt: PROMPT, maxTokens: 12, temperature: 0.8, seed: 4n, logprobs: 3 }
    const alone = await tokensOf(cluster, request)
    const prompt = { ...request, prompt: PROMPT.repeat(12), maxTokens: 2, promptLogprobs: 2 }
    const scored = await cluster.client.complete(prompt)
    await using pipeline = await Cluster.start({ name: "pipeline", baseRanks: 2, draft: null })
    expect((await tokensOf(pipeline, request)).flatMap(logProbsOf)).toEqual(alone.flatMap(logProbsOf))
    expect((await pipeline.client.complete(prompt)).prompt).toEqual(scored.prompt)
  })

  test("those of a prompt are what they were when its tokens were chosen, over many chunks of it, and of no answer at all", async () => {
    const request: InferRequest = { prompt: PROMPT, maxTokens: 150, temperature: 0.9, seed: 4n, logprobs: 3 }
    const {
      tokens: said,
      logProbs = [],
      promptTokens,
    } = await cluster.client.complete({ ...request, promptLogprobs: 0 })
    expect(said).toHaveLength(150)
    const own = await cluster.client.complete({ prompt: PROMPT, maxTokens: 0, promptLogprobs: 3 })
    expect(own).toMatchObject({ tokens: [], text: "", finishReason: "length", error: "" })
    const ids = (own.prompt ?? []).map(({ id }) => id)
    expect(own.prompt).toHaveLength(promptTokens)
    expect(Buffer.concat((own.prompt ?? []).map(({ bytes }) => bytes)).toString()).toMatch(new RegExp(`${PROMPT}$`))
    for (const speculation of ["none", TREE] as const) {
      const tokens = [...ids, ...said]
      const whole = await cluster.client.complete({ tokens, maxTokens: 4, promptLogprobs: 3, speculation })
      expect(whole.prompt?.map(({ id }) => id)).toEqual(tokens)
      expect(whole.prompt?.slice(0, promptTokens)).toEqual(own.prompt)
      expect(whole.prompt?.slice(promptTokens).map(({ id: _, ...rest }) => rest)).toEqual(logProbs)
      expect(Object.keys(whole.prompt?.[0] ?? {})).not.toContain("logProb")
      expect(whole.logProbs).toBeUndefined()
    }
  })

  test("a prompt of one token, and one as long as the context, are told too", async () => {
    const one = await cluster.client.complete({ tokens: [70], maxTokens: 1, promptLogprobs: 1 })
    expect(one.prompt).toMatchObject([{ id: 70 }])
    const tokens = Array.from({ length: 512 }, (_, i) => 20 + (i % 50))
    const full = await cluster.client.complete({ tokens, maxTokens: 0, promptLogprobs: 1 })
    expect(full).toMatchObject({ finishReason: "length", tokens: [] })
    expect(full.prompt?.map(({ id }) => id)).toEqual(tokens)
    expect(await infer({ tokens, maxTokens: 1 })).toMatchObject({ code: "400" })
    expect(await infer({ tokens: tokens.slice(5), mostTokens: 16, seed: 1n })).toMatchObject({
      ...{ code: "", answer: { _tag: "Answered", finishReason: "length", tokens: { length: 5 } } },
    })
  })

  test("where no length is given, an answer goes on to its end, or to the context's", async () => {
    const { finishReason, tokens, promptTokens } = await cluster.client.complete({
      prompt: PROMPT,
      temperature: 1.2,
      seed: 3n,
    })
    expect(promptTokens + tokens.length).toBe(finishReason === "stop" ? expect.any(Number) : 512)
    expect(tokens.length).toBeGreaterThan(256)
  })

  test("the token that ends an answer is told, and is none of it", async () => {
    const ended = await endedByItself(cluster)
    expect(ended.endToken).toMatchObject({ control: true, top: { length: 1 } })
    expect(Buffer.from(ended.endToken?.bytes ?? []).toString()).toBe("<|endoftext|>")
    expect(ended.tokens).not.toContain(ended.endToken?.id)
    expect(ended.logProbs).toHaveLength(ended.tokens.length)
    const tokens = [...(ended.prompt ?? []).map(({ id }) => id), ...ended.tokens, ended.endToken?.id ?? 0]
    const scored = await cluster.client.complete({ tokens, maxTokens: 0, promptLogprobs: 1 })
    expect(scored.prompt?.at(-1)).toEqual(ended.endToken)
  })

  test("only as many as were asked for: none, or the chosen token's own", async () => {
    const request: InferRequest = { prompt: PROMPT, maxTokens: 8, speculation: TREE }
    for (const token of await tokensOf(cluster, request)) expect(Object.keys(token)).toEqual(["id", "text", "origin"])
    for (const { logProb, top } of await tokensOf(cluster, { ...request, logprobs: 0 })) {
      expect(logProb).toBeLessThanOrEqual(0)
      expect(top).toEqual([])
    }
  })
})

describe("the stream of token logs", () => {
  test("keeps what was asked for last, and an operator's own settings", async () => {
    await withServer(async (url) => {
      expect(await openLog(url, { name: "a" })).toBe(3_600_000)
      expect(await openLog(url, { name: "a", retentionMillis: 5_000 })).toBe(5_000)
      expect(await openLog(url, { name: "b" })).toBe(5_000)
      expect(await openLog(url, { name: "b", retentionMillis: 600_000 })).toBe(600_000)
    })
    await withServer(async (url) => {
      const connection = await dial({ servers: url })
      const { streams } = await jetstreamManager(connection)
      const own = { name: TOKEN_STREAM, subjects: [TOKEN_STREAM_SUBJECTS], storage: StorageType.Memory }
      await streams.add({ ...own, allow_direct: true, max_age: nanos(7_000) })
      await connection.close()
      expect(await openLog(url, { name: "a", retentionMillis: 5_000 })).toBe(7_000)
    })
  })
})

interface Info {
  readonly name: string
  readonly type: string
  readonly metadata: Readonly<Record<string, string>>
  readonly endpoints: ReadonlyArray<{ readonly metadata: Readonly<Record<string, string>> }>
}

interface Stats {
  readonly num_requests: number
  readonly num_errors: number
  readonly processing_time: number
  readonly last_error?: string
}

const statsOf = async ({ client }: Cluster): Promise<Stats> => {
  const reply = await client.connection.request("$SRV.STATS.chorus-infer", "")
  const [endpoint] = reply.json<{ endpoints: ReadonlyArray<Stats> }>().endpoints
  if (endpoint === undefined) throw new Error("no endpoint")
  return endpoint
}

const tokensOf = async ({ client }: Cluster, request: InferRequest): Promise<ReadonlyArray<LoggedToken>> => {
  const tokens: Array<LoggedToken> = []
  for await (const token of await client.generate(request)) if (token.id >= 0) tokens.push(token)
  return tokens
}

/** An answer that is no longer than the context leaves, of the first seed that gives one. */
const endedByItself = async ({ client }: Cluster) => {
  for (let seed = 1n; seed < 40n; seed++) {
    const request: InferRequest = { prompt: "}\n", temperature: 1.5, seed, logprobs: 1, promptLogprobs: 0 }
    const answer = await client.complete(request)
    if (answer.finishReason === "stop") return answer
  }
  throw new Error("no answer has ended by itself")
}

const withServer = async (use: (url: string) => Promise<void>): Promise<void> => {
  const scope = Scope.makeUnsafe()
  try {
    const { url } = await Effect.runPromise(Scope.provide(startServer(), scope))
    await use(url)
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}

/** As a supervisor of that deployment does; gives the retention in milliseconds. */
const openLog = (url: string, options: TokenLogOptions): Promise<number> => {
  const layer = TokenLog.layer(options).pipe(Layer.provideMerge(onNats({ url, name: "test" })))
  const retention = Effect.gen(function* () {
    yield* TokenLog
    const { connection } = yield* Nats
    const { config } = yield* Effect.promise(async () =>
      (await jetstreamManager(connection)).streams.info(TOKEN_STREAM),
    )
    return config.max_age / nanos(1)
  })
  return Effect.runPromise(Effect.provide(retention, layer))
}

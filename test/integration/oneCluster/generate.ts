// A deployment at work through its client: what a request may ask for and what it is refused for, cancelling, and what
// becomes of a generation when something dies.
import { existsSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Exit, Result, Scope } from "effect"
import { beforeAll, describe, expect, test } from "vitest"
import { connect, type Generation } from "../../../src/client/index.ts"
import { start } from "../../../src/local/localCluster.ts"
import { open } from "../../../src/model/index.ts"
import { type RunningServer, start as startServer } from "../../../src/natsServer/natsServer.ts"
import { follow } from "../../../src/store/logReader.ts"
import { RankBeat } from "../../../src/wire/beat.ts"
import { codec } from "../../../src/wire/codec.ts"
import { InferAnswer, type InferRequest, type LogEntry } from "../../../src/wire/infer.ts"
import { subjectsOf } from "../../../src/wire/subjects.ts"
import { howToGet, isMissing, weights } from "../../weights.ts"
import { Cluster, DEMO, deploymentOf } from "../cluster.ts"
import { PROMPT, SAMPLED, TREE } from "../requests.ts"
import { oneCluster } from "./cluster.ts"

const LONG: InferRequest = { ...SAMPLED, maxTokens: 400, speculation: TREE }

describe("one deployment", () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await oneCluster()
  })

  test("tokens come one after the other, and the ending has them all", async () => {
    const generation = await cluster.client.generate({ prompt: PROMPT, maxTokens: 12, speculation: TREE })
    const seen: Array<{ readonly id: number; readonly text: string }> = []
    for await (const token of generation) seen.push(token)
    const { text, tokens, finishReason, stats } = await generation.ending()
    expect(seen.map(({ id }) => id)).toEqual(tokens)
    expect(seen.map(({ text }) => text).join("")).toBe(text)
    expect(finishReason).toBe("length")
    expect(stats).toMatchObject({ tokens: 12, promptTokens: generation.promptTokens })
    expect(stats.passes.calibrate?.count).toBe(stats.passes.draft?.count)
  })

  test("the log says where each token came from, in order, with its end as the last entry", async () => {
    const { connection } = cluster.client
    const { session } = await cluster.client.generate({ prompt: PROMPT, maxTokens: 24, speculation: TREE })
    const entries: Array<LogEntry> = []
    for await (const { entry } of follow(connection, subjectsOf("test").tokens(session))) entries.push(entry)
    const origins = entries.flatMap((entry) =>
      entry._tag === "Tokens" ? entry.tokens.map(({ origin }) => origin) : [],
    )
    expect(origins).toContain("drafted")
    expect(origins).toContain("corrected")
    const starts = entries.map(({ at }) => at)
    const ends = entries.map((entry) => entry.at + (entry._tag === "Tokens" ? entry.tokens.length : 0))
    expect(starts.slice(1)).toEqual(ends.slice(0, -1))
    expect(entries.at(-1)).toMatchObject({ _tag: "End", at: 24 })
  })

  test("prompts as text, as tokens, and as messages; seeds that are told; stop strings that do not show", async () => {
    const whole = await cluster.generate({ prompt: PROMPT, maxTokens: 24 })
    const stop = whole.text.slice(8, 11)
    const cut = await cluster.generate({ prompt: PROMPT, maxTokens: 24, stop: [stop] })
    expect(cut).toMatchObject({ finishReason: "stop", text: whole.text.slice(0, whole.text.indexOf(stop)) })
    const chosen = await cluster.client.generate({ prompt: PROMPT, maxTokens: 8, temperature: 1 })
    const { tokens } = await chosen.ending()
    const again = await cluster.generate({ prompt: PROMPT, maxTokens: 8, temperature: 1, seed: chosen.seed })
    expect(again.tokens).toEqual(tokens)
    expect((await cluster.generate({ tokens: [5, 6, 7], maxTokens: 4 })).tokens).toHaveLength(4)
    expect((await cluster.generate({ tokens: [5], maxTokens: 4, speculation: TREE })).tokens).toHaveLength(4)
  })

  const TREE_OR_NONE = [TREE, "none"] as const
  test.each(TREE_OR_NONE)("a bias forces, a ban bans at any temperature, penalties count: %j", async (speculation) => {
    const asked: InferRequest = { prompt: PROMPT, maxTokens: 24, speculation, temperature: 0.8, seed: 2n }
    const { tokens } = await cluster.generate(asked)
    const [most = 0] = tokens
    const banned = await cluster.generate({ ...asked, temperature: 2, logitBias: { [most]: -100 } })
    expect(banned.tokens).not.toContain(most)
    const forced: InferRequest = { ...asked, logitBias: { 263: 100 } }
    expect((await cluster.generate(forced)).tokens).toEqual(Array(24).fill(263))
    // 100 and 40 ahead of all others, less 2 for each time: their turns follow from the counts, whatever the model says.
    const two: InferRequest = { ...asked, maxTokens: 100, temperature: 0, frequencyPenalty: 2 }
    const counted = await cluster.generate({ ...two, logitBias: { 263: 100, 285: 100 } })
    const times = (token: number) => counted.tokens.filter((one) => one === token).length
    expect([times(263), times(285)].every((count) => count > 35)).toBe(true)
    expect(counted.tokens.slice(0, 70).every((one) => one === 263 || one === 285)).toBe(true)
    // What the prompt has is no part of the answer: nothing is penalised before the first token.
    const one: InferRequest = { tokens: [5, most, most], maxTokens: 1 }
    const penalised = await cluster.generate({ ...one, presencePenalty: 2, frequencyPenalty: 2 })
    expect(penalised.tokens).toEqual((await cluster.generate(one)).tokens)
  })

  test("an end is put off by minTokens, and is a token like others with ignoreEos", async () => {
    const { ends } = await Effect.runPromise(open(DEMO.base))
    const [end = 0] = ends
    for (const speculation of TREE_OR_NONE) {
      const asked: InferRequest = { prompt: PROMPT, maxTokens: 12, speculation, logitBias: { [end]: 100 } }
      expect(await cluster.generate(asked)).toMatchObject({ finishReason: "stop", tokens: [], text: "" })
      const put = await cluster.generate({ ...asked, minTokens: 5 })
      expect(put.finishReason).toBe("stop")
      const plain = await cluster.generate({ prompt: PROMPT, maxTokens: 5, speculation: "none" })
      expect(put.tokens).toEqual(plain.tokens)
      const on = await cluster.generate({ ...asked, ignoreEos: true, minTokens: 3 })
      expect(on).toMatchObject({ finishReason: "length", tokens: Array(12).fill(end), text: "" })
    }
    const whole = await cluster.generate({ prompt: PROMPT, maxTokens: 24 })
    const stop = whole.text.slice(4, 7)
    const late = await cluster.generate({ prompt: PROMPT, maxTokens: 24, minTokens: 24, stop: [stop] })
    expect(late.text).toBe(whole.text)
  })

  test("many at once give what each gives alone", async () => {
    const requests = [0, 1, 2, 3, 4, 5].map(
      (i): InferRequest => ({
        ...{ prompt: `${PROMPT}  field${i} = `, maxTokens: 16, temperature: 0.8, seed: BigInt(i), fuzzy: 1 + (i % 5) },
        speculation: i % 3 === 2 ? "none" : TREE,
      }),
    )
    const together = await Promise.all(requests.map((request) => cluster.generate(request)))
    for (const [i, request] of requests.entries()) {
      expect((await cluster.generate(request)).tokens).toEqual(together[i]?.tokens)
    }
  })

  const refusals: ReadonlyArray<readonly [string, InferRequest, RegExp]> = [
    ["nothing to continue", { maxTokens: 4 }, /^prompt: give exactly one of prompt, tokens and messages/],
    ["two prompts", { prompt: "a", tokens: [1] }, /^prompt: give exactly one/],
    ["no tokens", { tokens: [] }, /^prompt: has no tokens/],
    ["an unknown token", { tokens: [1, 99_999_999] }, /^tokens\[1\]: is 99999999, the vocabulary has \d+ tokens/],
    [
      "messages without a template",
      { messages: [{ role: "user", content: "hi" }] },
      /^messages: .* has no chat template/,
    ],
    ["a temperature below 0", { prompt: "a", temperature: -1 }, /^temperature: is -1; from 0 to 100 is possible/],
    ["a top-p above 1", { prompt: "a", topP: 1.5 }, /^topP: is 1.5; from 0 to 1/],
    ["a seed of 65 bits", { prompt: "a", seed: 2n ** 64n }, /^malformed infer request: seed: /],
    [
      "a bias of no token",
      { prompt: "a", logitBias: { 99999: 1 } },
      /^logitBias\.99999: is not a token: .* has \d+ tokens/,
    ],
    ["a bias of a word", { prompt: "a", logitBias: { the: 1 } }, /^logitBias\.the: is not a token/],
    ["a bias above 100", { prompt: "a", logitBias: { 5: 101 } }, /^logitBias\.5: is 101; from -100 to 100 is possible/],
    [
      "more biases than are taken",
      { prompt: "a", logitBias: Object.fromEntries(Array.from({ length: 1025 }, (_, token) => [token, 1])) },
      /^logitBias: has 1025 tokens; at most 1024 are possible/,
    ],
    [
      "a presence penalty above 2",
      { prompt: "a", presencePenalty: 3 },
      /^presencePenalty: is 3; from -2 to 2 is possible/,
    ],
    [
      "more tokens at least than at most",
      { prompt: "a", maxTokens: 4, minTokens: 5 },
      /^minTokens: is 5, more than the 4 tokens that the answer may have/,
    ],
    [
      "a tree that no pass takes",
      { prompt: "a", speculation: { depth: 2, width: 8, nodes: 512 } },
      /^speculation: a pass takes 512 rows/,
    ],
    [
      "more than the context",
      { prompt: "a", maxTokens: 600 },
      /^the prompt has \d+ tokens and asks for 600 more, the context holds 512/,
    ],
  ]
  test.each(refusals)("%s is refused by name", async (_, request, message) => {
    await expect(cluster.client.generate(request)).rejects.toThrow(message)
  })

  test("what is no request at all is refused by name, and the next one is served", async () => {
    const answers = codec("infer answer", InferAnswer)
    const { connection } = cluster.client
    const { infer } = subjectsOf("test")
    const junk = [
      new Uint8Array(0),
      new Uint8Array([0xc1]),
      Buffer.from("{}"),
      codec("any", InferAnswer).encode({
        _tag: "Refused",
        error: new (await import("../../../src/wire/errors.ts")).Cancelled({ session: "x" }),
      }),
    ]
    for (const message of junk) {
      const answer = Result.getOrThrow(answers.decode((await connection.request(infer, message)).data))
      expect(answer).toMatchObject({ _tag: "Refused", error: { _tag: "MalformedMessage", kind: "infer request" } })
    }
    expect((await cluster.generate({ prompt: PROMPT, maxTokens: 4 })).tokens).toHaveLength(4)
  })

  test("an unknown deployment is not served, and the error says how one would serve it", async () => {
    await using other = await connect({ url: cluster.local.url, keys: cluster.local.keys, deployment: "other" })
    await expect(other.generate({ prompt: "a" })).rejects.toThrow(/other is not served at .*`chorus up --name other`/)
  })

  test("a cancelled generation ends at once and frees its KV on every rank", async () => {
    const abort = new AbortController()
    const generation = await cluster.client.generate(LONG, { signal: abort.signal })
    const seen = await untilTokens(generation, 3)
    abort.abort()
    const { tokens, finishReason } = await generation.ending()
    expect(finishReason).toBe("cancelled")
    expect(tokens.length).toBeLessThan(400)
    expect(tokens.slice(0, seen.length)).toEqual(seen)
    await everyRank(cluster, 3, ({ sessions, bytesOfKv }) => sessions === 0 && bytesOfKv === 0)
  })

  test("cancelling during a long prefill ends it as well", async () => {
    const abort = new AbortController()
    const generation = await cluster.client.generate(
      { tokens: Array.from({ length: 500 }, (_, i) => i + 5), maxTokens: 8 },
      { signal: abort.signal },
    )
    abort.abort()
    const { finishReason } = await generation.ending()
    expect(["cancelled", "length"]).toContain(finishReason) // it may have been quicker
    await everyRank(cluster, 3, ({ sessions }) => sessions === 0)
  })
})

/** Reads this many tokens, and no further. */
const untilTokens = async (generation: Generation, count: number): Promise<ReadonlyArray<number>> => {
  const seen: Array<number> = []
  const tokens = generation[Symbol.asyncIterator]()
  while (seen.length < count) {
    const next = await tokens.next()
    if (next.done) break
    seen.push(next.value.id)
  }
  return seen
}

/** Waits until every rank's beat says so. */
const everyRank = async ({ client }: Cluster, ranks: number, says: (beat: RankBeat) => boolean): Promise<void> => {
  const beats = codec("rank beat", RankBeat)
  const saying = new Set<string>()
  const subscription = client.connection.subscribe(subjectsOf("test").beats)
  for await (const { data, subject } of subscription) {
    if (subject.includes(".supervisor.")) continue
    if (says(Result.getOrThrow(beats.decode(data)))) saying.add(subject)
    else saying.delete(subject)
    if (saying.size === ranks) return
  }
}

describe("when something dies", () => {
  test("a rank: its sessions end and say why, and so does the deployment", async () => {
    await using cluster = await Cluster.start()
    const generation = await cluster.client.generate(LONG)
    await untilTokens(generation, 2)
    process.kill(cluster.local.pids.base[0] ?? 0, "SIGKILL")
    const { finishReason, error } = await generation.ending()
    expect(finishReason).toBe("failed")
    expect(error).toMatch(/group base did not answer: rank 0 was not heard for 1000 ms/)
    const failed = await Effect.runPromise(Effect.flip(cluster.local.failed))
    expect(failed.message).toMatch(/rank 0 of base ended: SIGKILL/)
  })

  test("nats-server: when it is back, the generation goes on with the same tokens", async () => {
    const folder = await mkdtemp(join(tmpdir(), "chorus-test-"))
    let server = await ownServer({ folder })
    try {
      const port = Number(new URL(server.running.url).port)
      await using cluster = await Cluster.start({ nats: server.running.url })
      const { tokens } = await cluster.generate({ ...LONG, maxTokens: 60 })
      const generation = await cluster.client.generate({ ...LONG, maxTokens: 60 })
      await untilTokens(generation, 4)
      await server.stop()
      server = await ownServer({ folder, port })
      const survived = await generation.ending()
      expect(survived).toMatchObject({ finishReason: "length", tokens, error: "" })
    } finally {
      await server.stop()
      await rm(folder, { recursive: true })
    }
  })
})

const ownServer = async (options: { readonly folder: string; readonly port?: number }) => {
  const scope = Scope.makeUnsafe()
  const running: RunningServer = await Effect.runPromise(Scope.provide(startServer(options), scope))
  return { running, stop: () => Effect.runPromise(Scope.close(scope, Exit.void)) }
}

describe("refused before a process starts", () => {
  const startOf = (options: Parameters<typeof deploymentOf>[0]) =>
    Effect.runPromise(
      Effect.flip(
        Effect.scoped(start(deploymentOf(options), { nats: "nats://127.0.0.1:1", progress: { report: () => {} } })),
      ),
    )

  test("a model that is not there, by its path", async () => {
    expect((await startOf({ base: "/nowhere/model" })).message).toMatch(
      /cannot read \/nowhere\/model: there is nothing at this path/,
    )
  })

  test("a context longer than the model's, with both", async () => {
    expect((await startOf({ context: 100_000 })).message).toMatch(
      /a context of 100000 tokens was asked for, the model's is \d+/,
    )
  })

  test.skipIf(isMissing("smollm2"))(`a draft of another vocabulary${howToGet("smollm2")}`, async () => {
    const { message } = await startOf({ base: weights("smollm2"), draft: DEMO.draft })
    expect(message).toMatch(/have different vocabularies: token \d+ is .* in the draft, .* in the base/)
  })

  test("a server that does not answer, with its address", async () => {
    expect(existsSync(DEMO.base)).toBe(true)
    expect((await startOf({})).message).toMatch(
      /cannot reach NATS at nats:\/\/127.0.0.1:1: .*Is nats-server running there/,
    )
  })
})

// Many sessions at a time: every token of every stream is what the session gives alone, whatever runs beside it, is cancelled
// beside it, or has left its KV; and what is too much waits its turn or is refused, politely.
import { Result } from "effect"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { SupervisorBeat } from "../../src/wire/beat.ts"
import { codec } from "../../src/wire/codec.ts"
import type { InferRequest } from "../../src/wire/infer.ts"
import { GroupControl } from "../../src/wire/pass.ts"
import { groupSubjects, subjectsOf } from "../../src/wire/subjects.ts"
import { howToGet, isMissing, weights } from "../weights.ts"
import { Cluster, type ClusterOptions } from "./cluster.ts"
import { TREE } from "./requests.ts"

const OPENINGS = [
  "export class Queue {\n  constructor(",
  "/** Reads a file line by line. */\nexport function ",
  "def parse(items):\n    ",
  "The router is a small part of a program that",
  "import { readFile } from",
]
const SPECULATION: ReadonlyArray<InferRequest["speculation"]> = [
  "none",
  "adaptive",
  TREE,
  { depth: 4, width: 1, nodes: 4 },
]

/** Request n of the load: prompts, temperatures, seeds and forms of speculation go round at different paces. */
const requestOf = (n: number, speculates: boolean): InferRequest => ({
  prompt: `${OPENINGS[n % OPENINGS.length]}${" and so on".repeat(n % 3)}`,
  temperature: [0, 0.7, 1.2][n % 3] ?? 0,
  seed: BigInt(n),
  maxTokens: 10 + (n % 7),
  speculation: speculates ? (SPECULATION[n % SPECULATION.length] ?? "none") : "none",
})

const suite = (options: ClusterOptions, sessions: number): void => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await Cluster.start(options)
  })
  afterAll(() => cluster[Symbol.asyncDispose]())

  test(`${sessions} sessions at once, a third of them cancelled on their way, give what each gives alone`, async () => {
    const requests = Array.from({ length: sessions }, (_, n) => requestOf(n, options.draft !== null))
    const ended = await Promise.all(
      requests.map(async (request, n) => {
        const abort = new AbortController()
        const generation = await cluster.client.generate(request, { signal: abort.signal })
        const cancelAt = n % 3 === 2 ? n % 8 : Number.POSITIVE_INFINITY
        let tokens = 0
        if (cancelAt === 0) abort.abort()
        for await (const _ of generation) if (++tokens >= cancelAt) abort.abort()
        return generation.ending()
      }),
    )
    for (const [n, request] of requests.entries()) {
      const alone = await cluster.generate({ ...request, speculation: "none" })
      const { tokens = [], finishReason } = ended[n] ?? {}
      if (finishReason === "cancelled") expect(tokens).toEqual(alone.tokens.slice(0, tokens.length))
      else expect(tokens, JSON.stringify({ ...request, seed: n })).toEqual(alone.tokens)
    }
    expect(ended.filter(({ finishReason }) => finishReason !== "cancelled").length).toBeGreaterThan(sessions / 2)
  })
}

describe("the demo pair, drafting on two ranks of `layer`", () => suite({}, 24))
describe("the demo base on three ranks of `pipeline`", () => suite({ draft: null, baseRanks: 3 }, 24))
describe.skipIf(isMissing("smollm2"))(`smollm2${howToGet("smollm2")}`, () =>
  suite({ base: weights("smollm2"), draft: null }, 8),
)

const LONG = Array.from({ length: 300 }, (_, i) => 5 + ((i * 37) % 4000))

describe("a prompt that begins as another session's did", () => {
  let cluster: Cluster
  let plain: Cluster
  beforeAll(async () => {
    ;[cluster, plain] = await Promise.all([
      Cluster.start({ limits: { keepMillis: 60_000, kvTokens: 2000 } }),
      Cluster.start({ name: "plain" }),
    ])
  })
  afterAll(() => Promise.all([cluster[Symbol.asyncDispose](), plain[Symbol.asyncDispose]()]))

  test.each([
    ["none" as const, 0],
    [TREE, 0.8],
  ])("is not computed again, and the answer is the same: speculation %j", async (speculation, temperature) => {
    const asks = { speculation, temperature, seed: 7n, maxTokens: 24 }
    let tokens: ReadonlyArray<number> = LONG.slice(0, 150 + 20 * temperature)
    for (let turn = 0; turn < 4; turn++) {
      const [found, wanted] = await Promise.all([cluster, plain].map((one) => one.generate({ ...asks, tokens })))
      expect(found?.tokens).toEqual(wanted?.tokens)
      expect(wanted?.stats.reusedTokens).toBe(0)
      if (turn > 0) expect(found?.stats.reusedTokens).toBeGreaterThanOrEqual(tokens.length - 24 - 15 - 1)
      tokens = [...tokens, ...(found?.tokens ?? []), ...LONG.slice(20 * turn, 20 * turn + 14)] // a chat's next turn
    }
  })

  test("is computed where the ranks have lost it", async () => {
    const asks = { temperature: 0, maxTokens: 8, speculation: "none" as const }
    const first = await cluster.client.generate({ ...asks, tokens: LONG })
    await first.ending()
    const control = codec("group control", GroupControl)
    for (const group of ["base", "draft"]) {
      const message = control.encode({ _tag: "Release", session: first.session })
      cluster.client.connection.publish(groupSubjects({ deployment: "test", epoch: 1, group }).control, message)
    }
    await cluster.client.connection.flush()
    const tokens = [...LONG, 17, 4]
    const again = await cluster.generate({ ...asks, tokens })
    expect(again.stats.reusedTokens).toBe(0)
    expect(again.tokens).toEqual((await plain.generate({ ...asks, tokens })).tokens)
  })
})

describe("more than there is memory for", () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await Cluster.start({ draft: null, limits: { kvTokens: 300, queue: 2, clientSessions: 3 } })
  })
  afterAll(() => cluster[Symbol.asyncDispose]())

  const asks = { tokens: LONG.slice(0, 20), maxTokens: 200, temperature: 1, seed: 1n }
  const begun = async (request: InferRequest) => {
    const generation = await cluster.client.generate(request)
    const reader = generation[Symbol.asyncIterator]()
    await reader.next()
    return generation
  }

  test("waits in line, and may be cancelled there; beyond the line it is refused with a time to try again", async () => {
    const running = await begun(asks)
    const waiting = [await cluster.client.generate(asks), await cluster.client.generate(asks)]
    await expect(cluster.client.generate(asks)).rejects.toMatchObject({
      _tag: "Overloaded",
      deployment: "test",
      waiting: 2,
      retryAfterMillis: expect.any(Number),
    })
    waiting[0]?.cancel()
    expect(await waiting[0]?.ending()).toMatchObject({ finishReason: "cancelled", tokens: [] })
    running.cancel()
    await running.ending()
    const { finishReason, tokens } = (await waiting[1]?.ending()) ?? {}
    expect(finishReason).not.toBe("failed")
    expect(tokens).toEqual((await cluster.generate(asks)).tokens)
  })

  test("a request larger than all of it is refused as what it is", async () => {
    await expect(cluster.client.generate({ ...asks, maxTokens: 290 })).rejects.toMatchObject({
      _tag: "ContextExceeded",
    })
  })

  test("a client that asks for too many at a time is told its limit, and others are served", async () => {
    const small = { ...asks, maxTokens: 120, client: "greedy" } // long enough to be there while the fourth is asked for
    const three = await Promise.all([1, 2, 3].map(() => cluster.client.generate(small)))
    await expect(cluster.client.generate(small)).rejects.toMatchObject({ _tag: "ClientLimited", limit: 3 })
    const other = await cluster.generate({ ...small, client: "modest" })
    expect(other.finishReason).not.toBe("failed")
    await Promise.all(three.map((one) => one.ending()))
    await (await cluster.client.generate(small)).ending()
  })

  test("the supervisor's beat tells of it", async () => {
    const beats = codec("supervisor beat", SupervisorBeat)
    const subscription = cluster.client.connection.subscribe(subjectsOf("test").beat("supervisor.*"))
    let seen = false
    const askOn = async () => {
      while (!seen) await cluster.generate(asks)
    }
    const asking = [askOn(), askOn()] // one runs, the other waits
    for await (const { data } of subscription) {
      const beat = Result.getOrThrow(beats.decode(data))
      expect(beat).toMatchObject({ deployment: "test", state: "ready", kvTokensTotal: 300 })
      if (beat.sessions === 0 || beat.waiting === 0) continue
      expect(beat).toMatchObject({ sessions: 1, kvTokensReserved: 220, refused: 3 }) // by the tests above
      expect(beat.tokens).toBeGreaterThan(100)
      expect(beat.requests).toBeGreaterThan(10)
      break
    }
    seen = true
    await Promise.all(asking)
  })
})

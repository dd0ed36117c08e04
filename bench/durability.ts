// What does a token cost that is on the disk before it is acknowledged? Appends to the token log one after the other, and
// whole generations, with nats.conf's `sync_interval: always` and with nats-server's own two minutes, in turn: on one server,
// and on three of one machine, which hold three copies.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Layer } from "effect"
import { healthy, servers } from "../src/chaos/servers.ts"
import { type Client, connect } from "../src/client/index.ts"
import { start } from "../src/local/localCluster.ts"
import { onNats } from "../src/store/jetStream.ts"
import { TokenLog } from "../src/store/tokenLog.ts"
import type { Deployment } from "../src/wire/deployment.ts"
import type { LogEntry } from "../src/wire/infer.ts"
import type { Benchmark, RunOptions } from "./benchmark.ts"
import { quiet } from "./machine.ts"
import { pathsOf } from "./models.ts"
import { median, quantile, type Spread, showSpread, spreadOf } from "./statistics.ts"
import { closedLoop, perSecond, type Window } from "./streams.ts"

const CONFIG = join(import.meta.dirname, "../nats.conf")
const SYNCED = "sync_interval: always"
const INTERVALS = ["always", "2m"] as const
type Interval = (typeof INTERVALS)[number]

const ROUNDS = 5
const APPENDS = 200
const TOKENS_AN_ENTRY = 8 // about those of a burst
const STREAMS = [1, 16]

interface Round {
  readonly appends: ReadonlyArray<number> // milliseconds each
  readonly speeds: ReadonlyArray<number> // tokens a second, by STREAMS
}

interface Row {
  readonly servers: 1 | 3
  readonly interval: Interval
  readonly append: readonly [median: number, most: number] // milliseconds; the 95th percentile
  readonly speeds: ReadonlyArray<number> // medians
}

interface Cost {
  readonly servers: 1 | 3
  readonly append: Spread // always over 2m
  readonly speeds: ReadonlyArray<Spread>
}

export const durability: Benchmark = {
  name: "durability",
  question: "what does it cost that an acknowledged token is on the disk?",
  ratios: {
    "append.SERVERS": "an append's time with `sync_interval: always` over that with 2m (1, 3)",
    "tokens.SERVERS.STREAMS": "tokens/s with `sync_interval: always` over those with 2m (1, 3 servers; 1, 16 streams)",
  },
  run: async (options) => {
    const rows: Array<Row> = []
    const costs: Array<Cost> = []
    for (const count of [1, 3] as const) {
      const rounds = await measure(count, options)
      for (const interval of INTERVALS) rows.push(rowOf(count, interval, rounds[interval]))
      costs.push(costOf(count, rounds))
      const cost = costs.at(-1)
      if (cost) options.say(`${count} servers: an append ${showSpread(cost.append)} of the time with 2m`)
    }
    return {
      ratios: Object.fromEntries(
        costs.flatMap(({ servers, append, speeds }) => [
          [`append.${servers}`, append.median] as const,
          ...speeds.map((speed, i) => [`tokens.${servers}.${STREAMS[i]}`, speed.median] as const),
        ]),
      ),
      details: { rows, costs },
      title: "Durability",
      markdown: markdownOf(rows, costs),
    }
  },
}

interface Installation {
  readonly append: () => Promise<ReadonlyArray<number>>
  readonly client: Client
}

/** Both installations stand; one is measured at a time. */
const measure = (count: 1 | 3, options: RunOptions): Promise<Readonly<Record<Interval, ReadonlyArray<Round>>>> =>
  Effect.gen(function* () {
    const all = { always: yield* installation(count, "always"), "2m": yield* installation(count, "2m") }
    const rounds: Record<Interval, Array<Round>> = { always: [], "2m": [] }
    for (let round = 0; round < (options.quick ? 1 : ROUNDS); round++) {
      const order = round % 2 === 0 ? INTERVALS : INTERVALS.toReversed()
      for (const interval of order) {
        const one = yield* Effect.promise(() => roundOf(all[interval], options))
        rounds[interval].push(one)
        const speeds = one.speeds.map((speed) => speed.toFixed(0)).join(" and ")
        options.say(`${count} servers, ${interval}: append ${median(one.appends).toFixed(2)} ms, ${speeds} tokens/s`)
      }
    }
    return rounds
  }).pipe(Effect.scoped, Effect.runPromise)

const roundOf = async ({ append, client }: Installation, { quick }: RunOptions): Promise<Round> => {
  await quiet()
  const appends = await append()
  const window: Window = { warmUpMillis: 1_000, millis: quick ? 1_000 : 3_000 }
  const speeds: Array<number> = []
  for (const streams of STREAMS) {
    const requestOf = (n: number) => ({
      ...{ prompt: `export class Queue${n % 8}<T> {\n`, maxTokens: 48, temperature: 0.8, seed: BigInt(n) },
      speculation: "none" as const, // no control that finds its way meanwhile
    })
    speeds.push(perSecond(await closedLoop(client, streams, requestOf, window)))
  }
  return { appends, speeds }
}

const installation = Effect.fnUntraced(function* (count: 1 | 3, interval: Interval) {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "chorus-durability-"))),
    (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true })),
  )
  const config = join(folder, "nats.conf")
  yield* Effect.promise(async () => {
    const text = await readFile(CONFIG, "utf8")
    await writeFile(config, text.replace(SYNCED, `sync_interval: ${JSON.stringify(interval)}`))
  })
  const failed = (what: string) => {
    throw new Error(what)
  }
  const started = yield* servers({ folder, config, count, disks: false, accident: failed })
  const urls = started.map(({ port }) => `nats://127.0.0.1:${port}`).join(",")
  yield* healthy(started)
  const cluster = yield* start(deployment(), { nats: urls, progress: { report: () => {} } })
  const fabric = onNats({ url: urls, name: "bench" })
  const context = yield* Layer.build(Layer.provide(TokenLog.layer({ name: "bench" }), fabric))
  const client = yield* Effect.acquireRelease(
    Effect.promise(() => connect({ url: cluster.url, deployment: "bench" })),
    (client) => Effect.promise(() => client[Symbol.asyncDispose]()),
  )
  const append = () => Effect.runPromise(Effect.provide(appends, context))
  const one: Installation = { append, client }
  return one
})

let log = 0

/** A log of their own, one after the other; milliseconds of each. */
const appends = Effect.gen(function* () {
  const { append } = yield* TokenLog
  const session = `append${log++}`
  const tokens = Array.from({ length: TOKENS_AN_ENTRY }, (_, i) => ({
    id: 1000 + i,
    text: "word ",
    origin: "plain" as const,
  }))
  const millis: Array<number> = []
  let after = 0
  for (let i = 0; i < APPENDS; i++) {
    const entry: LogEntry = { _tag: "Tokens", epoch: 1, at: i * TOKENS_AN_ENTRY, tokens }
    const began = performance.now()
    after = yield* append(session, entry, after)
    millis.push(performance.now() - began)
  }
  return millis
})

const deployment = (): Deployment => {
  const paths = pathsOf(["demo/base"])
  const group = { strategy: "single", ranks: 1, threads: 1, device: "auto" } as const
  return {
    ...{ name: "bench", base: { ...group, name: "base", model: paths["demo/base"] }, draft: null },
    ...{ fuzzy: 1, deterministic: true, context: 512 },
  }
}

const rowOf = (servers: 1 | 3, interval: Interval, rounds: ReadonlyArray<Round>): Row => {
  const appends = rounds.flatMap(({ appends }) => appends)
  return {
    ...{ servers, interval, append: [median(appends), quantile(appends, 0.95)] },
    speeds: STREAMS.map((_, i) => median(rounds.map(({ speeds }) => speeds[i] ?? Number.NaN))),
  }
}

const costOf = (servers: 1 | 3, rounds: Readonly<Record<Interval, ReadonlyArray<Round>>>): Cost => {
  const ratio = (of: (round: Round) => number): Spread =>
    spreadOf(rounds.always.map((round, i) => of(round) / of(rounds["2m"][i] ?? round)))
  return {
    ...{ servers, append: ratio(({ appends }) => median(appends)) },
    speeds: STREAMS.map((_, i) => ratio(({ speeds }) => speeds[i] ?? Number.NaN)),
  }
}

const markdownOf = (rows: ReadonlyArray<Row>, costs: ReadonlyArray<Cost>): string =>
  [
    `The demo pair's base without a draft. An append is one entry of ${TOKENS_AN_ENTRY} tokens, acknowledged; median / 95th percentile of ${ROUNDS * APPENDS}. Three servers share this machine and its disk, and three copies are written to it.`,
    "",
    `| servers | sync_interval | append, ms | ${STREAMS.map((streams) => `tokens/s, ${streams} ${streams === 1 ? "stream" : "streams"}`).join(" | ")} |`,
    `|---:|---|---:|${STREAMS.map(() => "---:|").join("")}`,
    ...rows.map(
      ({ servers, interval, append, speeds }) =>
        `| ${servers} | ${interval} | ${append.map((one) => one.toFixed(2)).join(" / ")} | ${speeds.map((speed) => speed.toFixed(0)).join(" | ")} |`,
    ),
    "",
    "`always` over `2m`, the median of the rounds' ratios with the least and the largest:",
    "",
    `| servers | an append's time | ${STREAMS.map((streams) => `tokens/s, ${streams}`).join(" | ")} |`,
    `|---:|---|${STREAMS.map(() => "---|").join("")}`,
    ...costs.map(
      ({ servers, append, speeds }) =>
        `| ${servers} | ${showSpread(append)} | ${speeds.map((speed) => showSpread(speed)).join(" | ")} |`,
    ),
  ].join("\n")

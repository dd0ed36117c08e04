// What do many users see? Closed loop: a number of streams, each asking again when its answer is whole. Open loop: requests that
// come by chance, whether or not the ones before are answered. With llama.cpp's own parallel decoding of the same file at
// the same number of streams, measured in turn.
import { Effect } from "effect"
import { type Client, connect } from "../src/client/index.ts"
import { start } from "../src/local/localCluster.ts"
import { open } from "../src/model/index.ts"
import type { Deployment } from "../src/wire/deployment.ts"
import type { InferRequest } from "../src/wire/infer.ts"
import type { Benchmark, RunOptions } from "./benchmark.ts"
import { quiet, THREADS } from "./machine.ts"
import { pathsOf } from "./models.ts"
import { type MonitoredServer, monitoredServer } from "./natsMonitor.ts"
import { installPeers } from "./peers/install.ts"
import { LlamaCpp } from "./peers/llamaCpp.ts"
import { median, type Spread, showSpread, spreadOf } from "./statistics.ts"
import { closedLoop, openLoop, percentiles, perSecond, type RequestOf, type Seen, type Window } from "./streams.ts"

const MAX_TOKENS = 48
const CONTEXT = 512
const DEMO_STREAMS = [1, 4, 16, 64, 256]
const PEER_STREAMS = [1, 4, 16]
const BATCHED = [1, 16] as const // compared in turn
const BATCHING_ROUNDS = 5
const SHARES = [0.5, 0.9, 1.2] // of what the closed loop has served, in the open loop

const SUBJECTS = ["queue", "parser", "cache", "router", "logger", "matrix", "vector", "stream", "schema", "worker"]
const PROMPTS = SUBJECTS.flatMap((name) => [
  `export class ${name} {\n  constructor(private readonly size: number, private readonly name: string) {`,
  `/** A ${name} with a bound, and what happens when it is reached. */\nexport function create`,
  `The ${name} is a small part of a program that reads messages and answers them. It`,
])

/** One level of load, as its readers and nats-server saw it. */
interface Level {
  readonly load: number // streams, or requests a second
  readonly seen: Seen
  readonly messages: number // into nats-server, a token
  readonly bytes: number
}

interface Compared {
  readonly streams: number
  readonly ours: number // tokens a second
  readonly theirs: number
  readonly ratio: Spread
}

export const load: Benchmark = {
  name: "load",
  question: "what do many users see, and how does it compare with llama.cpp's parallel decoding?",
  ratios: {
    "demo.batching": "total tokens/s of 16 streams over those of one, in turn, the demo pair",
    "smollm2.STREAMS": "total tokens/s over llama.cpp's with as many sequences (1, 4, 16)",
  },
  run: async (options) => {
    const paths = pathsOf(["demo/base", "demo/draft", "smollm2"])
    installPeers(options.say)
    const closed: Array<Level> = []
    const batching: Array<number> = []
    const opened: Array<Level> = []
    await withServed(demoPair(paths), options, async (client, server) => {
      for (const streams of options.quick ? [1, 16] : DEMO_STREAMS) {
        await quiet()
        const window = windowOf(options, 3_000)
        closed.push(await level(streams, server, window, () => closedLoop(client, streams, sampled, window)))
        options.say(`demo pair, ${streams} streams: ${perSecond(last(closed).seen).toFixed(0)} tokens/s`)
      }
      for (let round = 0; round < (options.quick ? 1 : BATCHING_ROUNDS); round++) {
        const speeds: Record<number, number> = {}
        for (const streams of round % 2 === 0 ? BATCHED : BATCHED.toReversed()) {
          await quiet()
          speeds[streams] = perSecond(await closedLoop(client, streams, sampled, windowOf(options, 3_000)))
        }
        batching.push((speeds[BATCHED[1]] ?? Number.NaN) / (speeds[BATCHED[0]] ?? Number.NaN))
      }
      options.say(`demo pair, ${BATCHED[1]} streams over one, in turn: ${showSpread(spreadOf(batching))}`)
      const most = Math.max(...closed.map(({ seen }) => perSecond(seen))) / MAX_TOKENS
      for (const share of options.quick ? [0.8] : SHARES) {
        await quiet()
        const window = windowOf(options, 5_000)
        const rate = share * most
        opened.push(await level(rate, server, window, () => openLoop(client, rate, sampled, window)))
        options.say(`demo pair, ${rate.toFixed(1)} requests/s: ${perSecond(last(opened).seen).toFixed(0)} tokens/s`)
      }
    })
    const peer = await againstLlamaCpp(paths.smollm2, options)
    return reportOf(closed, opened, spreadOf(batching), peer.compared, peer.levels, peer.version)
  },
}

const demoPair = (paths: { readonly "demo/base": string; readonly "demo/draft": string }): Deployment => ({
  name: "bench",
  base: {
    ...{ name: "base", strategy: "single", ranks: 1 },
    threads: 1, // three ranks share the cores, and their steps are small
    device: "auto",
    model: paths["demo/base"],
  },
  draft: { ...{ name: "draft", strategy: "layer", ranks: 2 }, threads: 1, device: "auto", model: paths["demo/draft"] },
  ...{ fuzzy: 4, deterministic: true, context: CONTEXT },
})

const windowOf = ({ quick }: RunOptions, millis: number): Window => ({
  warmUpMillis: 1_000,
  millis: quick ? 2_000 : millis,
})

const sampled: RequestOf = (n) => ({ ...greedy(n), temperature: 0.8, seed: BigInt(n) })
const greedy = (n: number): InferRequest => ({
  prompt: PROMPTS[n % PROMPTS.length] ?? "",
  maxTokens: MAX_TOKENS,
  temperature: 0,
})

const level = async (
  load: number,
  server: MonitoredServer,
  { warmUpMillis, millis }: Window,
  run: () => Promise<Seen>,
): Promise<Level> => {
  const before = await server.traffic()
  const seen = await run()
  const after = await server.traffic()
  const tokens = Math.max(1, (seen.tokens * (warmUpMillis + millis)) / millis) // of the warm-up too, about
  return {
    ...{ load, seen },
    messages: (after.in_msgs - before.in_msgs) / tokens,
    bytes: (after.in_bytes - before.in_bytes) / tokens,
  }
}

const againstLlamaCpp = async (path: string, options: RunOptions) => {
  const { tokenizer } = await Effect.runPromise(open(path))
  const prompts = PROMPTS.map((prompt) => [...tokenizer.encode(prompt)])
  await using theirs = await LlamaCpp.start(path, THREADS, CONTEXT)
  const group = { strategy: "single", ranks: 1, threads: THREADS, device: "auto" } as const
  const deployment: Deployment = {
    ...{ name: "bench", base: { ...group, name: "base", model: path }, draft: null },
    ...{ fuzzy: 1, deterministic: true, context: CONTEXT },
  }
  const compared: Array<Compared> = []
  const levels: Array<Level> = []
  await withServed(deployment, options, async (client, server) => {
    for (const streams of options.quick ? [1, 16] : PEER_STREAMS) {
      const rounds: Array<readonly [Level, Seen]> = []
      for (let round = 0; round < (options.quick ? 1 : 3); round++) {
        await quiet()
        const window = windowOf(options, 3_000)
        const ours = () => level(streams, server, window, () => closedLoop(client, streams, greedy, window))
        const other = async (): Promise<Seen> => ({
          ...(await theirs.parallel({
            ...{ prompts, streams, maxTokens: MAX_TOKENS },
            ...{ warmUpMillis: window.warmUpMillis, windowMillis: window.millis },
          })),
          ...{ millis: window.millis, refused: 0 },
        })
        // Which side begins changes from round to round.
        const first = round % 2 === 0 ? await ours() : null
        const second = await other()
        rounds.push([first ?? (await ours()), second])
      }
      const ratio = spreadOf(rounds.map(([ours, theirs]) => perSecond(ours.seen) / perSecond(theirs)))
      const speeds = rounds.map(([ours, theirs]) => [perSecond(ours.seen), perSecond(theirs)] as const)
      compared.push({
        ...{ streams, ratio, ours: median(speeds.map(([ours]) => ours)) },
        theirs: median(speeds.map(([, theirs]) => theirs)),
      })
      levels.push(...rounds.slice(-1).map(([ours]) => ours))
      options.say(
        `smollm2, ${streams} streams: ${last(compared).ours.toFixed(0)} tokens/s, llama.cpp ${last(compared).theirs.toFixed(0)}, ratio ${showSpread(ratio)}`,
      )
    }
  })
  return { compared, levels, version: theirs.version }
}

/** A deployment on a server that counts what passes. */
const withServed = (
  deployment: Deployment,
  { say }: RunOptions,
  use: (client: Client, server: MonitoredServer) => Promise<void>,
): Promise<void> =>
  Effect.gen(function* () {
    const server = yield* monitoredServer
    say("starting the ranks")
    const { url, failed } = yield* start(deployment, { nats: server.url, progress: { report: () => {} } })
    const measuring = Effect.promise(async () => {
      await using client = await connect({ url, deployment: deployment.name })
      await use(client, server)
    })
    return yield* Effect.raceFirst(measuring, failed)
  }).pipe(Effect.scoped, Effect.runPromise)

const last = <A>(all: ReadonlyArray<A>): A => {
  const one = all.at(-1)
  if (one === undefined) throw new RangeError("nothing was measured")
  return one
}

const reportOf = (
  closed: ReadonlyArray<Level>,
  opened: ReadonlyArray<Level>,
  batching: Spread,
  compared: ReadonlyArray<Compared>,
  levels: ReadonlyArray<Level>,
  version: string,
) => {
  return {
    ratios: {
      "demo.batching": batching.median,
      ...Object.fromEntries(compared.map(({ streams, ratio }) => [`smollm2.${streams}`, ratio.median])),
    },
    details: { closed, opened, batching, compared, levels },
    title: "Load",
    markdown: [
      `Answers of at most ${MAX_TOKENS} tokens over nats-server, whose token log is synced to disk at every write; readers, supervisor, server and ranks share the machine. Times are the readers', in milliseconds: median / 95th / 99th percentile. A pause lies between tokens that did not come in one message; messages and bytes are all that enter nats-server, divided by the tokens.`,
      `### The demo pair, closed loop\n\nTemperature 0.8, adaptive speculation on two draft ranks. Measured in turn, sixteen streams together have **${showSpread(batching)}** times the tokens/s of one: the median of the rounds, with the least and the largest.\n\n${table("streams", closed)}`,
      `### The demo pair, open loop\n\nRequests come by chance (Poisson), at shares of the most that the closed loop has served.\n\n${table("requests/s", opened)}`,
      `### smollm2 against llama.cpp\n\nThe same GGUF file by node-llama-cpp 3.22.1 (ggml ${version}) with a sequence for each stream, ${THREADS} threads each, greedy, in turn. The ratio is the median of the rounds', with the least and the largest.\n\n| streams | Chorus, tokens/s | llama.cpp, tokens/s | ratio |\n|---|---|---|---|\n${compared.map(({ streams, ours, theirs, ratio }) => `| ${streams} | ${ours.toFixed(0)} | ${theirs.toFixed(0)} | ${showSpread(ratio)} |`).join("\n")}`,
      `### smollm2, closed loop\n\n${table("streams", levels)}`,
    ].join("\n\n"),
  }
}

const table = (load: string, levels: ReadonlyArray<Level>): string =>
  [
    `| ${load} | tokens/s | to the first token | pause | messages a token | bytes a token | refused |`,
    "|---|---|---|---|---|---|---|",
    ...levels.map(
      ({ load, seen, messages, bytes }) =>
        `| ${Number.isInteger(load) ? load : load.toFixed(1)} | ${perSecond(seen).toFixed(0)} | ${show(seen.first)} | ${show(seen.pauses)} | ${messages.toFixed(2)} | ${bytes.toFixed(0)} | ${seen.refused} |`,
    ),
  ].join("\n")

const show = (millis: ReadonlyArray<number>): string =>
  percentiles(millis)
    .map((one) => one.toFixed(one < 10 ? 1 : 0))
    .join(" / ")

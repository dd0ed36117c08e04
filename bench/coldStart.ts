// How long does a first request wait? From a request to a deployment without ranks to its first token, and the parts of
// that, over a real nats-server, host and supervisor. Weights are in the page cache: they were read by the start before.
import { Effect, Layer, Stream, SubscriptionRef } from "effect"
import { connect } from "../src/client/index.ts"
import { type Machine, startMachine } from "../src/local/machine.ts"
import { openBuckets } from "../src/store/deployments.ts"
import { onNats } from "../src/store/jetStream.ts"
import type { Deployment, StoredDeployment } from "../src/wire/deployment.ts"
import type { ColdStart } from "../src/wire/infer.ts"
import { COLD } from "../src/wire/replicas.ts"
import type { Benchmark } from "./benchmark.ts"
import { BenchFailed } from "./failure.ts"
import { THREADS } from "./machine.ts"
import { pathsOf } from "./models.ts"
import { median } from "./statistics.ts"

const ROUNDS = 5
const CONTEXT = 1024
const IDLE_MILLIS = 500
const PROMPT = "/** A queue with a bound: offers wait while it is full. */\nexport class BoundedQueue<T> {\n"

interface Started {
  readonly parts: ColdStart
  readonly cold: number // milliseconds to the first token, as the client sees it
  readonly warm: number // the same with the ranks ready
}

const PARTS: Readonly<Record<keyof ColdStart, string>> = {
  placementMillis: "placement",
  processStartMillis: "process start",
  modelLoadMillis: "model load",
  prefillMillis: "prefill",
  firstTokenMillis: "first token",
}

export const coldStart: Benchmark = {
  name: "coldstart",
  question: "from a request to a deployment without ranks to its first token",
  ratios: { MODEL: "time to the first token from zero ranks over that with the ranks ready (demo, smollm2, coder)" },
  run: async ({ quick, say }) => {
    const measured: Array<readonly [string, ReadonlyArray<Started>]> = []
    for (const [title, deployment] of deploymentsOf(quick)) {
      say(title)
      measured.push([title, await measure(deployment, quick ? 2 : ROUNDS, say)])
    }
    const rows = measured.map(([title, rounds]) => ({ title, ...summaryOf(rounds) }))
    return {
      ratios: Object.fromEntries(rows.map(({ title, cold, warm }) => [title, cold / warm])),
      details: rows,
      title: "Cold start",
      markdown: markdownOf(rows, quick ? 2 : ROUNDS),
    }
  },
}

const deploymentsOf = (quick: boolean): ReadonlyArray<readonly [string, Deployment]> => {
  const demo = {
    base: `${import.meta.dirname}/../models/demo/base`,
    draft: `${import.meta.dirname}/../models/demo/draft`,
  }
  const pair = ["demo", deploymentOf("demo", demo.base, demo.draft)] as const
  if (quick) return [pair]
  const paths = pathsOf(["smollm2", "coder-0.5b", "coder-1.5b"])
  return [
    pair,
    ["smollm2", deploymentOf("smollm2", paths.smollm2, null)],
    ["coder", deploymentOf("coder", paths["coder-1.5b"], paths["coder-0.5b"])],
  ]
}

const deploymentOf = (name: string, base: string, draft: string | null): Deployment => {
  const group = { strategy: "single", ranks: 1, threads: THREADS, device: "CPU" } as const
  return {
    name,
    base: { name: "base", model: base, ...group },
    draft: draft === null ? null : { name: "draft", model: draft, ...group },
    ...{ fuzzy: 4, deterministic: true, context: CONTEXT },
  }
}

/** Each round: cold, then once more with the ranks ready, then cold again by the idle time. */
const measure = (deployment: Deployment, rounds: number, say: (line: string) => void) =>
  Effect.gen(function* () {
    const { name } = deployment
    const stored: StoredDeployment = {
      ...deployment,
      ...{ idleTimeoutMillis: IDLE_MILLIS, replicas: { min: 0, max: 1, sessions: 8 }, queue: 8 },
    }
    const machine = yield* startMachine(stored, {
      ...{ nats: null, host: "bench", progress: { report: () => {} }, tell: () => {} },
    })
    const fabric = yield* Layer.build(onNats({ url: machine.url, name: "bench", role: "operator", keys: machine.keys }))
    const records = yield* Effect.flatMap(openBuckets, ({ replicas }) => replicas.follow).pipe(Effect.provide(fabric))
    const cold = SubscriptionRef.changes(records).pipe(
      Stream.filter((all) => (all.get(name)?.value ?? COLD).replicas.length === 0),
      Stream.runHead,
    )
    const started: Array<Started> = []
    for (let round = 0; round < rounds; round++) {
      yield* cold
      const first = yield* Effect.promise(() => ask(machine, name))
      const second = yield* Effect.promise(() => ask(machine, name))
      if (first.parts === undefined) throw new BenchFailed(`${name} was not cold`)
      started.push({ parts: first.parts, cold: first.millis, warm: second.millis })
      say(`  ${first.millis.toFixed(0)} ms cold, ${second.millis.toFixed(0)} ms warm`)
    }
    return started
  }).pipe(Effect.scoped, Effect.runPromise)

const ask = async ({ url, keys }: Pick<Machine, "url" | "keys">, deployment: string) => {
  await using client = await connect({ url, keys, deployment })
  const asked = performance.now()
  const generation = await client.generate({ prompt: PROMPT, maxTokens: 2, speculation: "none" })
  let millis = 0
  for await (const _ of generation) if (millis === 0) millis = performance.now() - asked
  const { stats, error } = await generation.ending()
  if (error !== "") throw new BenchFailed(error)
  return { millis, parts: stats.coldStart }
}

const summaryOf = (rounds: ReadonlyArray<Started>) => {
  const of = (pick: (one: Started) => number) => median(rounds.map(pick))
  const parts = Object.fromEntries(partNames.map((part) => [part, of(({ parts }) => parts[part])]))
  return { cold: of(({ cold }) => cold), warm: of(({ warm }) => warm), parts }
}

const partNames = Object.keys(PARTS) as ReadonlyArray<keyof ColdStart>

const markdownOf = (
  rows: ReadonlyArray<{ readonly title: string } & ReturnType<typeof summaryOf>>,
  rounds: number,
): string => {
  const millis = (value: number | undefined) => `${(value ?? 0).toFixed(0)}`
  return [
    `Median of ${rounds} starts, ms. A base rank and, but for smollm2, a draft rank on one host; weights in the page cache. The last column is the same request with the ranks ready.`,
    "",
    `| deployment | ${Object.values(PARTS).join(" | ")} | request to first token | warm |`,
    `|---|${partNames.map(() => "---:|").join("")}---:|---:|`,
    ...rows.map(({ title, cold, warm, parts }) => {
      const cells = partNames.map((part) => millis(parts[part]))
      return `| ${title} | ${cells.join(" | ")} | ${millis(cold)} | ${millis(warm)} |`
    }),
  ].join("\n")
}

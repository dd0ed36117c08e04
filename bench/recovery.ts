// How long is a stream silent when a rank is killed? SIGKILL of the base's rank in the middle of a generation, against the
// length of its context: with a standby that has heard the KV, and without, where the host starts the rank again and the
// prompt and what was said are filled in from the token log. Over a real nats-server, host and supervisor.
import { Effect, Result } from "effect"
import { type Client, connect } from "../src/client/index.ts"
import { startMachine } from "../src/local/machine.ts"
import { RankBeat } from "../src/wire/beat.ts"
import { codec } from "../src/wire/codec.ts"
import type { Deployment, StoredDeployment } from "../src/wire/deployment.ts"
import { HostBeat } from "../src/wire/host.ts"
import { hostSubjects, subjectsOf } from "../src/wire/subjects.ts"
import type { Benchmark } from "./benchmark.ts"
import { type Chart, writeChart } from "./chart.ts"
import { BenchFailed } from "./failure.ts"
import { THREADS } from "./machine.ts"
import { pathsOf } from "./models.ts"
import { median } from "./statistics.ts"

const ROUNDS = 3
const BEFORE = 16 // tokens that are said when the rank is killed
const AFTER = 24
const PICTURE = "docs/recovery.svg" // from the root

const beats = codec("rank beat", RankBeat)
const hostBeats = codec("host beat", HostBeat)

interface Subject {
  readonly title: string
  readonly deployment: Deployment
  readonly lengths: ReadonlyArray<number> // tokens of the prompt
}

interface Recovered {
  readonly noticed: number // milliseconds from the kill until the host has said so
  readonly silent: number // from the kill to the next token that was not computed before
}

type Way = "standby" | "prefill"

interface Row {
  readonly title: string
  readonly way: Way
  readonly length: number
  readonly noticed: number // medians, milliseconds
  readonly silent: number
  readonly most: number
}

export const recovery: Benchmark = {
  name: "recovery",
  question: "from the kill of a rank to the next token, with a standby and with a prefill from the token log",
  ratios: { "MODEL TOKENS": "silence with a prefill over that with a standby (demo, smollm2), by tokens of context" },
  run: async ({ quick, say }) => {
    const rows: Array<Row> = []
    for (const subject of pairsOf(quick)) {
      for (const way of ["standby", "prefill"] as const) {
        for (const length of subject.lengths) {
          const row = await measure(subject, way, length, quick ? 1 : ROUNDS)
          const [silent, noticed] = [row.silent.toFixed(0), row.noticed.toFixed(0)]
          say(`${row.title}, ${length} tokens, ${way}: silent for ${silent} ms, noticed after ${noticed} ms`)
          rows.push(row)
        }
      }
    }
    if (!quick) writeChart(PICTURE, chartOf(rows))
    return {
      ratios: ratiosOf(rows),
      details: rows,
      title: "Recovery",
      markdown: markdownOf(rows, quick ? 1 : ROUNDS),
    }
  },
}

const pairsOf = (quick: boolean): ReadonlyArray<Subject> => {
  const models = `${import.meta.dirname}/../models/demo`
  const demo = deploymentOf("demo", `${models}/base`, `${models}/draft`, 1024)
  if (quick) return [{ title: "demo", deployment: demo, lengths: [256] }]
  const { smollm2 } = pathsOf(["smollm2"])
  return [
    { title: "demo", deployment: demo, lengths: [64, 256, 768] },
    { title: "smollm2", deployment: deploymentOf("smollm2", smollm2, null, 1280), lengths: [256, 1024] },
  ]
}

const deploymentOf = (name: string, base: string, draft: string | null, context: number): Deployment => {
  const group = { strategy: "single", ranks: 1, threads: THREADS, device: "CPU" } as const
  return {
    name,
    base: { name: "base", model: base, ...group },
    draft: draft === null ? null : { name: "draft", model: draft, ...group },
    ...{ fuzzy: 4, deterministic: true, context, keepMillis: 0 }, // what is kept of an earlier round would be no prefill
  }
}

/** Kills on one machine, few enough: a host gives up a rank that ends again and again. */
const measure = ({ deployment, title }: Subject, way: Way, length: number, rounds: number): Promise<Row> =>
  Effect.gen(function* () {
    const stored: StoredDeployment = {
      ...deployment,
      ...{ idleTimeoutMillis: null, replicas: { min: 1, max: 1, sessions: 8 }, standby: way === "standby" ? 1 : 0 },
    }
    const silent = { progress: { report: () => {} }, tell: () => {} }
    const machine = yield* startMachine(stored, { nats: null, host: "bench", ...silent })
    const { url, keys } = machine
    const all = async (): Promise<Row> => {
      await using client = await connect({ url, keys, role: "operator", deployment: deployment.name })
      await using watch = new Watch(client, deployment.name)
      const found: Array<Recovered> = []
      for (let round = 0; round < rounds; round++) found.push(await killed(client, watch, stored, length))
      return { title, way, length, ...summaryOf(found) }
    }
    return yield* Effect.raceFirst(Effect.promise(all), machine.failed)
  }).pipe(Effect.scoped, Effect.runPromise)

const summaryOf = (found: ReadonlyArray<Recovered>) => ({
  noticed: median(found.map(({ noticed }) => noticed)),
  silent: median(found.map(({ silent }) => silent)),
  most: Math.max(...found.map(({ silent }) => silent)),
})

/** One generation whose base rank is killed. */
const killed = async (client: Client, watch: Watch, stored: StoredDeployment, length: number): Promise<Recovered> => {
  const pid = await watch.whole(stored)
  const tokens = Array.from({ length }, (_, i) => (i * i * 31 + 17 * i + 5) % 4000)
  const generation = await client.generate({ tokens, maxTokens: BEFORE + AFTER, temperature: 1, seed: 7n })
  let killedAt = 0
  let noticed: Promise<number> = Promise.resolve(0)
  const came: Array<number> = []
  let said = 0
  for await (const _ of generation) {
    if (killedAt > 0) came.push(performance.now())
    if (++said !== BEFORE) continue
    noticed = watch.gone(pid)
    process.kill(pid, "SIGKILL")
    killedAt = performance.now()
  }
  const { error } = await generation.ending()
  if (error !== "" || came.length === 0) {
    throw new BenchFailed(`${stored.name} ended after ${said} tokens: ${error || "it was not long enough"}`)
  }
  return { noticed: (await noticed) - killedAt, silent: endOfLongest([killedAt, ...came]) - killedAt }
}

/** When the longest pause was over: what was computed before the kill comes after it, but not long after. */
const endOfLongest = (times: ReadonlyArray<number>): number => {
  const pauses = times.slice(1).map((at, i) => ({ at, millis: at - (times[i] ?? at) }))
  return pauses.reduce((longest, pause) => (pause.millis > longest.millis ? pause : longest)).at
}

/** What ranks and hosts say of themselves. */
class Watch implements AsyncDisposable {
  readonly #ranks = new Map<string, RankBeat>()
  readonly #listeners = new Set<() => void>()
  readonly #subscriptions: ReadonlyArray<{ unsubscribe: () => void }>
  #hosted: ReadonlyArray<number> = []

  constructor({ connection }: Client, deployment: string) {
    const heard = () => this.#listeners.forEach((listener) => listener())
    this.#subscriptions = [
      connection.subscribe(subjectsOf(deployment).beats, {
        callback: (_, { subject, data }) => {
          const beat = beats.decode(data)
          if (Result.isSuccess(beat)) this.#ranks.set(subject, beat.success)
          heard()
        },
      }),
      connection.subscribe(hostSubjects("*").beat, {
        callback: (_, { data }) => {
          const beat = hostBeats.decode(data)
          if (Result.isSuccess(beat)) this.#hosted = beat.success.ranks.map(({ pid }) => pid)
          heard()
        },
      }),
    ]
  }

  /** The base's rank, when every rank of the deployment and every standby that it wants is ready. */
  async whole({ draft, standby = 0 }: StoredDeployment): Promise<number> {
    const groups = draft === null ? ["base"] : ["base", "draft"]
    for (;;) {
      const live = [...this.#ranks.values()].filter(({ pid }) => this.#hosted.includes(pid))
      const epoch = Math.max(...live.map((beat) => beat.epoch))
      const is = (group: string, state: RankBeat["state"]) =>
        live.find((beat) => beat.epoch === epoch && beat.group === group && beat.state === state)
      const guarded = standby === 0 || groups.every((group) => is(group, "standby") !== undefined)
      const base = is("base", "ready")
      if (base !== undefined && guarded && groups.every((group) => is(group, "ready") !== undefined)) return base.pid
      await this.#next()
    }
  }

  /** When a host says that it has a process no more. */
  async gone(pid: number): Promise<number> {
    while (this.#hosted.includes(pid)) await this.#next()
    return performance.now()
  }

  #next(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#listeners.delete(done)
        resolve()
      }
      this.#listeners.add(done)
    })
  }

  async [Symbol.asyncDispose]() {
    for (const subscription of this.#subscriptions) subscription.unsubscribe()
  }
}

const of = (rows: ReadonlyArray<Row>, title: string, way: Way) =>
  rows.filter((row) => row.title === title && row.way === way)

const titlesOf = (rows: ReadonlyArray<Row>): ReadonlyArray<string> => [...new Set(rows.map(({ title }) => title))]

const ratiosOf = (rows: ReadonlyArray<Row>): Record<string, number> =>
  Object.fromEntries(
    pairsOfRows(rows).map(({ title, length, standby, prefill }) => [
      `${title} ${length}`,
      prefill.silent / standby.silent,
    ]),
  )

const chartOf = (rows: ReadonlyArray<Row>): Chart => ({
  title: "Silence after the SIGKILL of a rank",
  x: "tokens of context",
  y: "seconds to the next token",
  series: titlesOf(rows).flatMap((title) =>
    (["prefill", "standby"] as const).map((way) => ({
      name: `${title}, ${way}`,
      points: of(rows, title, way).map(({ length, silent }) => [length, silent / 1000] as const),
    })),
  ),
})

const markdownOf = (rows: ReadonlyArray<Row>, rounds: number): string => {
  const millis = (value: number) => value.toFixed(0)
  return [
    `Median of ${rounds} kills (the longest in brackets), ms. A base rank, for demo with a draft rank beside it; host, supervisor and standbys on the same machine. A stream is silent from the kill until the next token that was not computed before. *noticed* is the part of it until the host has said that its rank is gone; the rest is recovery. With a prefill, the host starts the rank again first.`,
    "",
    "| pair | context | noticed | silent, standby | silent, prefill |",
    "|---|---:|---:|---:|---:|",
    ...pairsOfRows(rows).map(
      ({ title, length, standby, prefill }) =>
        `| ${title} | ${length} | ${millis(standby.noticed)} | ${millis(standby.silent)} (${millis(standby.most)}) | ${millis(prefill.silent)} (${millis(prefill.most)}) |`,
    ),
    "",
    `![Silence after the kill of a rank, by tokens of context](../${PICTURE})`,
  ].join("\n")
}

/** Rows of one model and length, side by side. */
const pairsOfRows = (rows: ReadonlyArray<Row>) =>
  rows.flatMap((standby) => {
    const { title, length, way } = standby
    const prefill = of(rows, title, "prefill").find((row) => row.length === length)
    return way === "standby" && prefill !== undefined ? [{ title, length, standby, prefill }] : []
  })

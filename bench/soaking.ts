// A soak: many short generations, some cancelled at random points, and what is left of them in every process.
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Result } from "effect"
import { type Client, connect } from "../src/client/index.ts"
import { start } from "../src/local/localCluster.ts"
import { RankBeat, SupervisorBeat } from "../src/wire/beat.ts"
import { codec } from "../src/wire/codec.ts"
import type { Deployment } from "../src/wire/deployment.ts"
import type { InferRequest } from "../src/wire/infer.ts"
import { subjectsOf } from "../src/wire/subjects.ts"
import { type MonitoredServer, monitoredServer } from "./natsMonitor.ts"
import { mulberry } from "./streams.ts"

const MODELS = join(import.meta.dirname, "../models/demo")

const DEPLOYMENT: Deployment = {
  name: "soak",
  base: { ...{ name: "base", strategy: "single", ranks: 1 }, threads: 1, device: "CPU", model: join(MODELS, "base") },
  draft: { ...{ name: "draft", strategy: "layer", ranks: 2 }, threads: 1, device: "CPU", model: join(MODELS, "draft") },
  ...{ fuzzy: 4, deterministic: true, context: 512, keepMillis: 500, kvTokens: 4000, queue: 1000 },
}

export interface SoakOptions {
  readonly generations: number
  readonly streams: number
  readonly seed: number
  readonly say: (line: string) => void
}

/** What there is while nothing runs. */
interface Rest {
  readonly sessions: number // on all ranks
  readonly bytesOfKv: number
  readonly kvTokens: number // that the supervisor has set aside or keeps
  readonly subscriptions: number
  readonly connections: number
  readonly mebibytes: Readonly<Record<string, number>> // resident, of each process
}

export interface SoakReport {
  readonly generations: number
  readonly cancelled: number
  readonly tokens: number
  readonly before: Rest // after half of the generations: caches are full and heaps have their size
  readonly after: Rest
  readonly left: ReadonlyArray<string> // what is not as it was
}

/** Memory that a process may have taken more: a heap is collected when it pleases. */
const GROWTH = 1.15
const SLACK_MEBIBYTES = 40

export const soak = ({ generations, streams, seed, say }: SoakOptions): Promise<SoakReport> =>
  Effect.gen(function* () {
    const server = yield* monitoredServer
    const { url, pids, failed } = yield* start(DEPLOYMENT, { nats: server.url, progress: { report: () => {} } })
    const processes = {
      "nats-server": server.pid,
      supervisor: pids.supervisor,
      ...Object.fromEntries([...pids.base, ...pids.draft].map((pid, rank) => [`rank process ${rank}`, pid])),
    }
    const soaking = Effect.promise(async () => {
      await using client = await connect({ url, deployment: DEPLOYMENT.name })
      const counted = { cancelled: 0, tokens: 0 }
      const warmUp = Math.ceil(generations / 2)
      const tell = async (n: number) =>
        say(`${n} generations; MiB: ${Object.values(await memoryOf(processes)).join(", ")}`)
      await spend(client, { from: 0, to: warmUp, streams, seed }, counted, tell)
      const before = await rest(client, server, processes)
      await spend(client, { from: warmUp, to: generations, streams, seed }, counted, tell)
      const after = await rest(client, server, processes)
      return { generations, ...counted, before, after, left: compare(before, after) }
    })
    return yield* Effect.raceFirst(soaking, failed)
  }).pipe(Effect.scoped, Effect.runPromise)

interface Share {
  readonly from: number
  readonly to: number
  readonly streams: number
  readonly seed: number
}

const spend = async (
  client: Client,
  { from, to, streams, seed }: Share,
  counted: { cancelled: number; tokens: number },
  tell: (generations: number) => Promise<void>,
): Promise<void> => {
  let next = from
  const stream = async () => {
    while (next < to) {
      const n = next++
      if (n % 500 === 0) await tell(n)
      await one(client, mulberry(seed + n), counted)
    }
  }
  await Promise.all(Array.from({ length: streams }, stream))
}

/** A generation of a random kind; a third of them is cancelled at a random point, before the first token too. */
const one = async (client: Client, chance: () => number, counted: { cancelled: number; tokens: number }) => {
  const below = (limit: number) => Math.floor(chance() * limit)
  const abort = new AbortController()
  const generation = await client.generate(requestOf(below), { signal: abort.signal })
  const cancelAt = below(3) === 0 ? below(20) : Number.POSITIVE_INFINITY
  let seen = 0
  if (cancelAt === 0) abort.abort()
  for await (const _ of generation) if (++seen === cancelAt) abort.abort()
  const { finishReason, error, tokens } = await generation.ending()
  if (finishReason === "failed") throw new Error(`a generation failed: ${error}`)
  counted.tokens += tokens.length
  if (finishReason === "cancelled") counted.cancelled += 1
}

const requestOf = (below: (limit: number) => number): InferRequest => {
  const family = below(4) // prompts of a family begin alike
  const tokens = Array.from({ length: 20 + below(60) }, (_, i) => 5 + ((i * (7 + family)) % 4000))
  const speculation = (["none", "adaptive", { depth: 2, width: 2, nodes: 4 }] as const)[below(3)] ?? "none"
  return { tokens, speculation, maxTokens: 1 + below(24), temperature: below(2), seed: BigInt(below(1000)) }
}

/** Waits until every rank and the supervisor say that nothing runs and nothing is kept, then looks at the processes. */
const rest = async (
  client: Client,
  server: MonitoredServer,
  processes: Readonly<Record<string, number>>,
): Promise<Rest> => {
  const { sessions, bytesOfKv, kvTokens } = await quietBeats(client)
  const { subscriptions, connections } = await quietTraffic(server)
  return { sessions, bytesOfKv, kvTokens, subscriptions, connections, mebibytes: await memoryOf(processes) }
}

/** The server keeps its side of a reader for a second after it has left. */
const QUIET_MILLIS = 2_000
const QUIET_TIMES = 10

const quietTraffic = async (server: MonitoredServer) => {
  let last = await server.traffic()
  for (let i = 0; i < QUIET_TIMES; i++) {
    await new Promise((resolve) => setTimeout(resolve, QUIET_MILLIS))
    const next = await server.traffic()
    if (next.subscriptions >= last.subscriptions) return next
    last = next
  }
  return last
}

const memoryOf = async (processes: Readonly<Record<string, number>>) => {
  const mebibytes: Record<string, number> = {}
  for (const [name, pid] of Object.entries(processes)) mebibytes[name] = await residentMebibytes(pid)
  return mebibytes
}

const ranks = codec("rank beat", RankBeat)
const supervisors = codec("supervisor beat", SupervisorBeat)

const PATIENCE_BEATS = 100

/** The newest beats, when all of them are at rest; or as they are when that does not come. */
const quietBeats = async (client: Client) => {
  const subscription = client.connection.subscribe(subjectsOf(DEPLOYMENT.name).beats)
  const ofRanks = new Map<string, RankBeat>()
  let tokens = -1
  let heard = 0
  for await (const { data, subject } of subscription) {
    if (subject.includes(".supervisor.")) {
      const beat = Result.getOrThrow(supervisors.decode(data))
      tokens = beat.kvTokensReserved + beat.kvTokensKept
    } else ofRanks.set(subject, Result.getOrThrow(ranks.decode(data)))
    const sessions = [...ofRanks.values()].reduce((sum, beat) => sum + beat.sessions, 0)
    const bytesOfKv = [...ofRanks.values()].reduce((sum, beat) => sum + beat.bytesOfKv, 0)
    const quiet = ofRanks.size === 3 && sessions === 0 && tokens === 0
    if (quiet || ++heard === PATIENCE_BEATS) return { sessions, bytesOfKv, kvTokens: tokens }
  }
  throw new Error("the connection has ended")
}

const residentMebibytes = async (pid: number): Promise<number> => {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "")
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN) / 1024)
}

const compare = (before: Rest, after: Rest): ReadonlyArray<string> => {
  const left: Array<string> = []
  for (const what of ["sessions", "bytesOfKv", "kvTokens"] as const) {
    if (after[what] !== 0) left.push(`${what}: ${after[what]}`)
  }
  for (const what of ["subscriptions", "connections"] as const) {
    if (after[what] > before[what]) left.push(`${what}: ${after[what]}, before ${before[what]}`)
  }
  for (const [name, mebibytes] of Object.entries(after.mebibytes)) {
    const then = before.mebibytes[name] ?? 0
    if (mebibytes > then * GROWTH + SLACK_MEBIBYTES) left.push(`${name}: ${mebibytes} MiB, before ${then} MiB`)
  }
  return left
}

// What a chaos run has left behind where nothing runs any more: sessions and KV, readers' consumers, subscriptions, ghosts
// among the registered services, and processes.
import { readdirSync, readFileSync } from "node:fs"
import { jetstreamManager } from "@nats-io/jetstream"
import { Effect, Option, Schema } from "effect"
import { bucketOf, keysOf } from "../store/keys.ts"
import { TOKEN_STREAM } from "../wire/subjects.ts"
import { type Installation, MARK } from "./installation.ts"
import type { Server } from "./servers.ts"

const EXECUTIONS = "chorus_executions"

/** What there is of each thing while nothing runs, by name. */
export type Rest = Readonly<Record<string, number>>

export const restOf = async (installation: Installation): Promise<Rest> => {
  const { watch, servers } = installation
  const heard = watch.heard()
  const ranks = heard.flatMap((beat) => (beat._tag === "RankBeat" ? [beat] : []))
  const supervisors = heard.flatMap((beat) => (beat._tag === "SupervisorBeat" ? [beat] : []))
  const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((total, number) => total + number, 0)
  return {
    "sessions on ranks": sum(ranks.map(({ sessions }) => sessions)),
    "bytes of KV": sum(ranks.map(({ bytesOfKv }) => bytesOfKv)),
    "sessions of supervisors": sum(supervisors.map(({ sessions, waiting }) => sessions + waiting)),
    "tokens of KV set aside": sum(supervisors.map(({ kvTokensReserved }) => kvTokensReserved)),
    "readers of token logs": await readers(installation),
    "execution records": await records(installation),
    "ranks that are heard": ranks.length,
    processes: processesOf(process.env[MARK] ?? "").length,
    ...(await services(installation)),
    ...(await subscriptions(servers)),
  }
}

/** What is more than it was. */
export const left = (before: Rest, after: Rest): ReadonlyArray<string> =>
  Object.keys({ ...before, ...after }).flatMap((what) => {
    const [was = 0, is = 0] = [before[what], after[what]]
    return is > was ? [`${what}: ${is}, before ${was}`] : []
  })

/** Those that have a listener: the consumers of readers that were killed, the server removes by itself. */
const readers = async ({ watch }: Installation): Promise<number> => {
  const manager = await jetstreamManager(watch.connection)
  let count = 0
  for await (const { push_bound } of manager.consumers.list(TOKEN_STREAM)) if (push_bound === true) count += 1
  return count
}

/** Of sessions that have not ended, and what belongs to them. */
const records = async ({ watch }: Installation): Promise<number> =>
  (await Effect.runPromise(keysOf(watch.storage, bucketOf(EXECUTIONS)))).length

const Ping = Schema.fromJsonString(Schema.Struct({ name: Schema.String, id: Schema.String }))
const decodePing = Schema.decodeUnknownOption(Ping)

const PING_MILLIS = 1_000

/** Registered services that answer, by name: one whose process is gone would be one too many. */
const services = async ({ watch }: Installation): Promise<Rest> => {
  const counts: Record<string, number> = {}
  const options = { strategy: "timer", maxWait: PING_MILLIS } as const
  for await (const message of await watch.connection.requestMany("$SRV.PING", "", options)) {
    const ping = decodePing(message.string())
    if (Option.isNone(ping)) continue
    const what = `services ${ping.value.name}`
    counts[what] = (counts[what] ?? 0) + 1
  }
  return counts
}

const Connections = Schema.Struct({
  connections: Schema.Array(Schema.Struct({ name: Schema.optionalKey(Schema.String), subscriptions: Schema.Finite })),
})

/** By the names of the connections, on all servers. */
const subscriptions = async (servers: ReadonlyArray<Server>): Promise<Rest> => {
  const answers = await Promise.all(servers.map(({ monitor }) => monitor("/connz?limit=1024")))
  const all = answers.flatMap((answer) => Schema.decodeUnknownSync(Connections)(answer).connections)
  const counts: Record<string, number> = {}
  for (const { name = "", subscriptions } of all) {
    const [what, connections] = [`subscriptions of ${name}`, `connections of ${name}`]
    counts[what] = (counts[what] ?? 0) + subscriptions
    counts[connections] = (counts[connections] ?? 0) + 1
  }
  return counts
}

/** Process ids of those that carry a run's mark, but for this one; none where there is no /proc. */
export const processesOf = (mark: string): ReadonlyArray<number> => {
  try {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => pid !== process.pid && carries(pid, `${MARK}=${mark}`))
  } catch {
    return []
  }
}

const carries = (pid: number, variable: string): boolean => {
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(variable)
  } catch {
    return false // gone, or not ours to read
  }
}

const LOOK_MILLIS = 250

/** When nothing is left, or after so long as it is. */
export const settled = (installation: Installation, before: Rest, patienceMillis: number) =>
  Effect.promise(async () => {
    const began = performance.now()
    for (;;) {
      const after = await restOf(installation)
      if (left(before, after).length === 0 || performance.now() - began > patienceMillis) return after
      await new Promise((again) => setTimeout(again, LOOK_MILLIS))
    }
  })

// Which actors are there: services answer $SRV.STATS, ranks beat. Both are collected for some beats' time, and none is asked twice.
import { Effect, Option, Result, Schema } from "effect"
import { Bus, type Message } from "../bus/bus.ts"
import { BEAT_MILLIS, RankBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import { HostBeat } from "../wire/host.ts"
import { hostSubjects, subjectsOf } from "../wire/subjects.ts"

export interface ServiceSeen {
  readonly deployment: string
  readonly name: string
  readonly id: string
  readonly version: string
  readonly metadata: Readonly<Record<string, string>>
  readonly endpoints: ReadonlyArray<typeof EndpointStats.Type>
}

export type RankSeen = { readonly deployment: string } & RankBeat

/** A rank of a host is one of those that beat. */
export type HostSeen = Omit<HostBeat, "_tag" | "ranks"> & { readonly ranks: number }

export interface Census {
  readonly hosts: ReadonlyArray<HostSeen>
  readonly services: ReadonlyArray<ServiceSeen>
  readonly ranks: ReadonlyArray<RankSeen>
}

const WINDOW_MILLIS = 3 * BEAT_MILLIS // one beat may be late

export const census: Effect.Effect<Census, never, Bus> = Effect.suspend(() =>
  Effect.all({ hosts, services, ranks }, { concurrency: "unbounded" }),
)

/** An answer to $SRV.STATS, the parts that are used: github.com/nats-io/nats-architecture-and-design, ADR-32. */
const EndpointStats = Schema.Struct({
  name: Schema.String,
  subject: Schema.String,
  num_requests: Schema.Finite,
  num_errors: Schema.Finite,
  data: Schema.optionalKey(Schema.Unknown),
})
const Stats = Schema.Struct({
  name: Schema.String,
  id: Schema.String,
  version: Schema.String,
  metadata: Schema.optionalKey(Schema.NullOr(Schema.Record(Schema.String, Schema.String))),
  endpoints: Schema.optionalKey(Schema.NullOr(Schema.Array(EndpointStats))),
})
const decodeStats = Schema.decodeUnknownOption(Schema.fromJsonString(Stats))

/** What comes on a subject within the window. */
const collected = (subject: string, heard: (message: Message) => void) =>
  Effect.scoped(
    Effect.flatMap(Bus, ({ subscribe }) => Effect.andThen(subscribe(subject, heard), Effect.sleep(WINDOW_MILLIS))),
  )

const services = Effect.gen(function* () {
  const { publish, inbox: ownInbox } = yield* Bus
  const inbox = ownInbox()
  const seen: Array<ServiceSeen> = []
  const ask = Effect.sync(() => publish("$SRV.STATS", undefined, inbox))
  const answers = collected(inbox, ({ data }) => {
    const stats = decodeStats(new TextDecoder().decode(data)) // none where no service answers
    if (Option.isSome(stats)) seen.push(...serviceOf(stats.value))
  })
  yield* Effect.all([answers, ask], { concurrency: "unbounded" })
  return seen.sort((a, b) => compare(a.deployment, b.deployment) || compare(a.name, b.name) || compare(a.id, b.id))
})

/** None where the service is not one of Chorus: other services share the server. */
const serviceOf = (stats: typeof Stats.Type): ReadonlyArray<ServiceSeen> => {
  const endpoints = stats.endpoints ?? []
  const deployment = endpoints.map(({ subject }) => deploymentOf(subject)).find((name) => name !== undefined)
  if (deployment === undefined) return []
  const { name, id, version } = stats
  return [{ deployment, name, id, version, metadata: stats.metadata ?? {}, endpoints }]
}

const beat = codec("heartbeat", RankBeat)

const ranks = Effect.gen(function* () {
  const latest = new Map<string, RankSeen>()
  yield* collected(subjectsOf("*").beats, ({ subject, data }) => {
    const decoded = beat.decode(data)
    const deployment = deploymentOf(subject)
    if (Result.isFailure(decoded) || deployment === undefined) return
    latest.set(subject, { deployment, ...decoded.success })
  })
  return [...latest.values()].sort(
    (a, b) => compare(a.deployment, b.deployment) || compare(a.group, b.group) || a.rank - b.rank,
  )
})

const hostBeat = codec("host beat", HostBeat)

const hosts = Effect.gen(function* () {
  const latest = new Map<string, HostSeen>()
  yield* collected(hostSubjects("*").beat, ({ data }) => {
    const decoded = hostBeat.decode(data)
    if (Result.isFailure(decoded)) return
    const { _tag, ranks, ...beat } = decoded.success
    latest.set(beat.name, { ...beat, ranks: ranks.length })
  })
  return [...latest.values()].sort((a, b) => compare(a.name, b.name))
})

/** The deployment of a subject of Chorus. */
const deploymentOf = (subject: string): string | undefined => {
  const [chorus, version, deployment] = subject.split(".")
  return chorus === "chorus" && version === "v1" ? deployment : undefined
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

// What an installation says of itself, heard over a way that no fault touches: beats of ranks, hosts and supervisors, and
// the record of the replicas.
import { Effect, Result, Schema, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { Nats } from "../bus/nats.ts"
import { openBuckets } from "../store/deployments.ts"
import { Storage } from "../store/storage.ts"
import { RankBeat, SupervisorBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import type { StoredDeployment } from "../wire/deployment.ts"
import { HostBeat, type HostedRank, placeKey } from "../wire/host.ts"
import { COLD, type Replicas } from "../wire/replicas.ts"
import { hostSubjects, subjectsOf } from "../wire/subjects.ts"
import type { Kept } from "./operator.ts"

const Beat = Schema.Union([RankBeat, SupervisorBeat, HostBeat])
type Beat = typeof Beat.Type
const beats = codec("beat", Beat)

/** Beats are 250 ms to a second apart. */
const FRESH_MILLIS = 1_800

export interface Watch {
  readonly replicas: () => Replicas
  /** Processes of ranks, in the order of their places. */
  readonly ranks: () => ReadonlyArray<HostedRank & { readonly host: string }>
  /** What is heard now. */
  readonly heard: () => ReadonlyArray<Beat>
  /** Whether these actors are heard, and every replica that there should be. */
  readonly isWhole: (actors: ReadonlyArray<Kept>) => boolean
  readonly connection: Nats["Service"]["connection"]
  readonly storage: Storage["Service"]
}

export const watch = Effect.fnUntraced(function* (deployment: StoredDeployment) {
  const { connection } = yield* Nats
  const { subscribe } = yield* Bus
  const storage = yield* Storage
  const records = yield* Effect.flatMap(openBuckets, ({ replicas }) => replicas.follow)
  const newest = new Map<string, { readonly beat: Beat; readonly at: number }>()
  const hear = (subject: string, message: Uint8Array): void => {
    const beat = beats.decode(message)
    if (Result.isSuccess(beat)) newest.set(subject, { beat: beat.success, at: performance.now() })
  }
  for (const subject of [subjectsOf(deployment.name).beats, hostSubjects("*").beat]) {
    yield* subscribe(subject, ({ subject, data }) => hear(subject, data))
  }
  const heard = () =>
    [...newest.values()].filter(({ at }) => performance.now() - at < FRESH_MILLIS).map(({ beat }) => beat)
  const replicas = () => SubscriptionRef.getUnsafe(records).get(deployment.name)?.value ?? COLD
  const ranks = () =>
    heard()
      .flatMap((beat) => (beat._tag === "HostBeat" ? beat.ranks.map((rank) => ({ ...rank, host: beat.name })) : []))
      .filter(({ pid }) => pid > 0)
      .sort((a, b) => (placeKey(a) < placeKey(b) ? -1 : 1))
  const watching: Watch = {
    ...{ connection, storage, replicas, ranks, heard },
    isWhole: (actors) => {
      const pids = new Set(heard().flatMap((beat) => (beat._tag === "RankBeat" ? [] : [beat.pid])))
      const said = actors.every(({ role, pid }) => role === "gateway" || pids.has(pid()))
      return said && isServed(deployment, replicas(), heard())
    },
  }
  return watching
})

/** As many replicas as there should be, ready, and every rank of theirs heard as ready. */
const isServed = ({ replicas: { min } }: StoredDeployment, { replicas }: Replicas, heard: ReadonlyArray<Beat>) => {
  const ready = new Set(
    heard.flatMap((beat) =>
      beat._tag === "RankBeat" && beat.state === "ready" ? [`${beat.epoch} ${beat.group} ${beat.rank}`] : [],
    ),
  )
  return (
    replicas.length >= min &&
    replicas.every(
      ({ state, epoch, ranks }) =>
        state === "ready" && ranks.every(({ group, rank }) => ready.has(`${epoch} ${group} ${rank}`)),
    )
  )
}

// A deployment on this machine: a nats-server where none is given, its ranks and a supervisor as child processes. All of
// them end with the scope, and with this process however it ends.
import { Deferred, Effect, Layer, Stream, SubscriptionRef } from "effect"
import { folderOfKeys, keyIn, natsEnvironment, rankAccess } from "../bus/access.ts"
import { type Group, join } from "../group/group.ts"
import { type ActorEnded, startActor, startActors } from "../host/process.ts"
import { oneForAll } from "../host/supervision.ts"
import { onNats } from "../store/jetStream.ts"
import type { RankBeat } from "../wire/beat.ts"
import { type Deployment, ENVIRONMENT, type Group as GroupConfig, groupsOf } from "../wire/deployment.ts"
import { checkModels } from "./checkModels.ts"
import { ownGateway } from "./ownGateway.ts"
import { ownFolders, ownServer } from "./ownServer.ts"

/** This process is the first owner of the groups that it starts. */
const EPOCH = 1

export interface Progress {
  /** What is being done, and how much of it, from 0 to 1, where that is known. */
  readonly report: (doing: string, fraction?: number) => void
}

export interface LocalCluster {
  readonly url: string
  readonly keys: string | null // folder; null: the server asks for none
  readonly http: string | null // URL of the gateway; null where none was asked for
  readonly pids: {
    readonly natsServer: number | null // null where it is not ours
    readonly gateway: number | null
    readonly supervisor: number
    readonly base: ReadonlyArray<number>
    readonly draft: ReadonlyArray<number>
  }
  /** Fails when a process ends without having been told to. */
  readonly failed: Effect.Effect<never, ActorEnded>
}

export interface StartOptions {
  readonly nats: string | null // URL; null starts a server
  readonly keys?: string | null // folder, of a server that asks for keys; by default what the environment says
  readonly progress: Progress
  readonly gateway?: Readonly<Record<string, string>> // its environment; left out: no HTTP
}

/** Everything is ready when this ends. */
export const start = Effect.fnUntraced(function* (
  deployment: Deployment,
  { nats, keys: given = null, progress, gateway }: StartOptions,
) {
  progress.report("Looking at the models")
  yield* checkModels(deployment)
  const ended = yield* Deferred.make<never, ActorEnded>()
  if (nats === null) progress.report("Starting nats-server")
  const server = nats === null ? yield* Effect.flatMap(ownFolders(deployment.name), (place) => ownServer(place)) : null
  const url = server?.url ?? nats ?? ""
  const keys = server?.keys ?? given ?? folderOfKeys(process.env)
  if (server === null) progress.report(`Connecting to ${url}`)
  const fabric = yield* Layer.build(onNats({ url, name: `${deployment.name}.up`, role: "operator", keys }))
  const http = gateway === undefined ? null : yield* ownGateway(natsEnvironment(url, keyIn(keys, "gateway")), gateway)
  progress.report("Starting the ranks")
  const groups = groupsOf(deployment)
  const members = groups.flatMap((group) => Array.from({ length: group.ranks }, (_, rank) => ({ group, rank })))
  const ranks = yield* startActors(
    members.map(({ group, rank }) => ({
      ...{ name: `rank ${rank} of ${group.name}`, file: "rank.ts" },
      environment: {
        ...environmentOf(deployment),
        ...natsEnvironment(url, rankAccess(keyIn(keys, "host"), deployment.name)),
        [ENVIRONMENT.group]: group.name,
        [ENVIRONMENT.rank]: `${rank}`,
      },
    })),
  )
  const supervisor = yield* startActor({
    ...{ name: "the supervisor", file: "supervisor.ts" },
    environment: { ...environmentOf(deployment), ...natsEnvironment(url, keyIn(keys, "supervisor")) },
  })
  yield* oneForAll(
    [server, http, ...ranks, supervisor].filter((child) => child !== null),
    ended,
  )
  const cluster: LocalCluster = {
    ...{ url, keys },
    http: http?.url ?? null,
    pids: {
      gateway: http?.pid ?? null,
      natsServer: server?.pid ?? null,
      supervisor: supervisor.pid,
      base: ranks.filter((_, i) => members[i]?.group.name === "base").map(({ pid }) => pid),
      draft: ranks.filter((_, i) => members[i]?.group.name === "draft").map(({ pid }) => pid),
    },
    failed: Deferred.await(ended),
  }
  const loading = Effect.scoped(reportLoading(deployment, groups, progress)).pipe(Effect.provide(fabric))
  yield* Effect.raceFirst(Effect.raceFirst(supervisor.ready, loading), cluster.failed)
  return cluster
})

const environmentOf = (deployment: Deployment) => ({
  [ENVIRONMENT.deployment]: JSON.stringify(deployment),
  [ENVIRONMENT.epoch]: `${EPOCH}`,
})

/** Tells how far the ranks are, until interrupted. */
const reportLoading = Effect.fnUntraced(function* (
  { name }: Deployment,
  groups: ReadonlyArray<GroupConfig>,
  progress: Progress,
) {
  const joined = yield* Effect.forEach(groups, (group) => join({ deployment: name, group, epoch: EPOCH }))
  const expected = groups.reduce((sum, { ranks }) => sum + ranks, 0)
  const known = new Map<Group, ReadonlyArray<RankBeat>>()
  const tell = (group: Group, beats: ReadonlyMap<number, RankBeat>): void => {
    known.set(group, [...beats.values()])
    const all = [...known.values()].flat()
    const done = all.reduce((sum, { state, progress }) => sum + (state === "ready" ? 1 : progress), 0)
    progress.report(`Loading the model on ${expected} ranks`, done / expected)
  }
  const watched = joined.map((group) =>
    SubscriptionRef.changes(group.beats).pipe(Stream.runForEach((beats) => Effect.sync(() => tell(group, beats)))),
  )
  return yield* Effect.andThen(Effect.all(watched, { concurrency: "unbounded" }), Effect.never)
})

// A deployment on this machine: a nats-server where none is given, its ranks and a supervisor as child processes. All of
// them end with the scope, and with this process however it ends.
import { Deferred, Effect, Stream, SubscriptionRef } from "effect"
import { keyIn, natsEnvironment, rankAccess } from "../bus/access.ts"
import { type Group, join } from "../group/group.ts"
import { type ActorEnded, startActor, startActors } from "../host/process.ts"
import { oneForAll } from "../host/supervision.ts"
import type { RankBeat } from "../wire/beat.ts"
import { type Deployment, ENVIRONMENT, type Group as GroupConfig, groupsOf } from "../wire/deployment.ts"
import { foundation, type Local, type LocalOptions, type Progress, type Supervise } from "./foundation.ts"

/** This process is the first owner of the groups that it starts. */
const EPOCH = 1

export type LocalCluster = Local<ActorEnded>

/** Everything is ready when this ends. */
export const start = Effect.fnUntraced(function* (deployment: Deployment, options: LocalOptions) {
  const { progress } = options
  const ended = yield* Deferred.make<never, ActorEnded>()
  const supervise: Supervise = (_, start) => Effect.tap(start, (child) => oneForAll([child], ended))
  const { url, keys, http, pids, fabric, showing } = yield* foundation(deployment, options, supervise)
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
    environment: { ...environmentOf(deployment), ...showing("supervisor") },
  })
  yield* oneForAll([...ranks, supervisor], ended)
  const pidsOf = (group: string) => ranks.filter((_, i) => members[i]?.group.name === group).map(({ pid }) => pid)
  const cluster: LocalCluster = {
    ...{ url, keys, http, failed: Deferred.await(ended) },
    pids: { ...pids, supervisor: supervisor.pid, base: pidsOf("base"), draft: pidsOf("draft") },
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

// `chorus up`: a host and a supervisor on this machine, a nats-server where none is given, and one deployment in the bucket,
// until the scope closes. All processes end with this one, however it ends.
import { Deferred, Effect, Result, Scope, Stream, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { type Observations, observe } from "../controller/observations.ts"
import { type Hosts, watchHosts } from "../host/hosts.ts"
import { type ActorEnded, startServing } from "../host/process.ts"
import { type GivenUp, supervised } from "../host/supervision.ts"
import { openBuckets } from "../store/deployments.ts"
import { SupervisorBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import { ENVIRONMENT, groupsOf, type StoredDeployment } from "../wire/deployment.ts"
import { ActivationFailed, NoPlacement } from "../wire/errors.ts"
import { type HostedRank, placeKey } from "../wire/host.ts"
import { COLD, type Replica } from "../wire/replicas.ts"
import { subjectsOf } from "../wire/subjects.ts"
import { foundation, type Local, type LocalOptions, type Progress, type Supervise } from "./foundation.ts"

const supervisorBeats = codec("supervisor beat", SupervisorBeat)

const LOOK_MILLIS = 250

export interface MachineOptions extends LocalOptions {
  readonly host: string // its name
  readonly tell: (line: string) => void // what was started again
}

export type Machine = Local<GivenUp> & { readonly pids: { readonly host: number } }

/** The deployment's ranks are ready when this ends; from then on it idles as it says. */
export const startMachine = Effect.fnUntraced(function* (deployment: StoredDeployment, options: MachineOptions) {
  const { host: name, progress, tell } = options
  const givenUp = yield* Deferred.make<never, GivenUp>()
  const supervise: Supervise = (child, start) => {
    const restarting = ({ message }: ActorEnded, millis: number) =>
      tell(`${message}. It is started again in ${millis} ms.`)
    return supervised({ name: child, start, restarting, running: () => tell(`${child} runs again`) }, givenUp)
  }
  const { url, keys, http, pids, fabric, showing } = yield* foundation(deployment, options, supervise)
  progress.report("Starting the host and the supervisor")
  // The one that is started last is ended first: sessions end while their ranks are there.
  const [ofHost, ofSupervisor] = [yield* Scope.fork(yield* Effect.scope), yield* Scope.fork(yield* Effect.scope)]
  const host = startServing({
    ...{ name: "the host", file: "host.ts" },
    environment: { ...showing("host"), [ENVIRONMENT.host]: JSON.stringify({ name }) },
  })
  const supervisor = startServing({
    ...{ name: "the supervisor", file: "supervisor.ts", environment: showing("supervisor") },
  })
  const actors = yield* Effect.all(
    {
      host: Scope.provide(supervise("the host", host), ofHost),
      supervisor: Scope.provide(supervise("the supervisor", supervisor), ofSupervisor),
    },
    { concurrency: "unbounded" },
  )
  yield* Effect.provide(tellRestarts(name, tell), fabric)
  yield* Effect.provide(tellStorage(deployment.name, tell), fabric)
  const failed = Deferred.await(givenUp)
  const ranks = yield* Effect.raceFirst(Effect.provide(activated(deployment, progress), fabric), failed)
  const machine: Machine = {
    ...{ url, keys, http, failed },
    pids: { ...pids, host: actors.host.pid, supervisor: actors.supervisor.pid, ...ranks },
  }
  return machine
})

/** The host starts its ranks again; this process reports it all the same. */
const tellRestarts = Effect.fnUntraced(function* (host: string, tell: (line: string) => void) {
  const known = new Map<string, HostedRank>()
  const hosts: Hosts = yield* watchHosts(() => {
    for (const rank of hosts.all().get(host)?.ranks ?? []) {
      const before = known.get(placeKey(rank))
      known.set(placeKey(rank), rank)
      if (rank.state === "failed" && before?.state !== "failed") tell(rank.reason)
      else if (rank.restarts > (before?.restarts ?? 0)) tell(`${rank.reason}. The host starts it again.`)
    }
  })
})

/** What the supervisor says of the storage that it writes to, when it says something else than before. */
const tellStorage = Effect.fnUntraced(function* (deployment: string, tell: (line: string) => void) {
  const { subscribe } = yield* Bus
  let known = ""
  const hear = (message: Uint8Array): void => {
    const beat = supervisorBeats.decode(message)
    if (Result.isFailure(beat) || (beat.success.storage ?? "") === known) return
    known = beat.success.storage ?? ""
    tell(known === "" ? "what is stored on NATS is taken again" : `a storage on NATS refuses: ${known}`)
  }
  yield* subscribe(subjectsOf(deployment).beat("supervisor.*"), ({ data }) => hear(data))
})

/** Puts the deployment into the bucket until the scope closes, and waits until one replica of it is ready. */
const activated = Effect.fnUntraced(function* (deployment: StoredDeployment, progress: Progress) {
  const { name } = deployment
  const { deployments, replicas } = yield* openBuckets
  const observed = yield* observe(() => {})
  const records = yield* replicas.follow
  const before = SubscriptionRef.getUnsafe(records).get(name)?.value.failure?.at
  // Activated without a request, then as it wants to be.
  const min = Math.max(1, deployment.replicas.min)
  progress.report("Starting the ranks")
  yield* Effect.acquireRelease(
    deployments.put(name, { ...deployment, replicas: { ...deployment.replicas, min } }),
    () => Effect.ignore(Effect.timeout(deployments.remove(name), "2 seconds")),
  )
  const looking = Stream.merge(SubscriptionRef.changes(records), Stream.tick(LOOK_MILLIS)).pipe(
    Stream.mapEffect(() => {
      const { replicas, failure } = SubscriptionRef.getUnsafe(records).get(name)?.value ?? COLD
      const ready = replicas.find(({ state }) => state === "ready")
      if (ready !== undefined) return Effect.succeed(ready)
      if (failure !== null && failure.at !== before) {
        const { kind, reason } = failure
        return Effect.fail(
          kind === "placement"
            ? new NoPlacement({ deployment: name, reason })
            : new ActivationFailed({ deployment: name, reason }),
        )
      }
      const [activating] = replicas
      if (activating !== undefined) tellLoading(activating, observed, progress)
      return Effect.succeed(null)
    }),
    Stream.filter((replica) => replica !== null),
    Stream.runHead,
  )
  const replica = yield* Effect.flatMap(looking, Effect.fromOption).pipe(
    Effect.catchTag("NoSuchElementError", () => Effect.never),
  )
  yield* deployments.put(name, deployment)
  yield* deployments.uphold
  const pids = (group: string) => pidsOf(replica, group, observed)
  return { base: pids("base"), draft: pids("draft") }
})

const tellLoading = (
  { formed: epoch, deployment, ranks }: Replica,
  observed: Observations,
  progress: Progress,
): void => {
  const expected = groupsOf(deployment).reduce((sum, { ranks }) => sum + ranks, 0)
  const done = ranks.map(({ group, rank }) => {
    const beat = observed.rank({ deployment: deployment.name, epoch, group, rank })
    return beat === null || beat === "silent" ? 0 : beat.state === "ready" ? 1 : beat.progress
  })
  progress.report(`Loading the model on ${expected} ranks`, done.reduce((sum, one) => sum + one, 0) / expected)
}

const pidsOf = (
  { formed: epoch, deployment, ranks }: Replica,
  group: string,
  observed: Observations,
): ReadonlyArray<number> =>
  ranks
    .filter((rank) => rank.group === group)
    .map(({ group, rank }) => {
      const beat = observed.rank({ deployment: deployment.name, epoch, group, rank })
      return beat === null || beat === "silent" ? 0 : beat.pid
    })

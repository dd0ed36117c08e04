// `chorus up`: a host and a supervisor on this machine, a nats-server where none is given, and one deployment in the bucket,
// until the scope closes. All processes end with this one, however it ends.
import { Deferred, Effect, Layer, type Scope, Stream, SubscriptionRef } from "effect"
import { folderOfKeys, keyIn, natsEnvironment } from "../fabric/access.ts"
import { Nats } from "../fabric/nats.ts"
import { ENVIRONMENT, groupsOf, type StoredDeployment } from "../wire/deployment.ts"
import { ActivationFailed, NoPlacement } from "../wire/errors.ts"
import { COLD, type Replica } from "../wire/replicas.ts"
import { type ActorEnded, type ActorProcess, startActor } from "./actorProcess.ts"
import { checkModels } from "./checkModels.ts"
import { openBuckets } from "./deployments.ts"
import type { Progress } from "./localCluster.ts"
import { type Observed, observe } from "./observed.ts"
import { ownGateway } from "./ownGateway.ts"
import { ownServer } from "./ownServer.ts"

const LOOK_MILLIS = 250

export interface MachineOptions {
  readonly nats: string | null // URL; null starts a server
  readonly keys?: string | null // folder: of the server that there is, or to be made for the one that is started
  readonly host: string // its name
  readonly gateway?: Readonly<Record<string, string>> // its environment; left out: no HTTP
  readonly progress: Progress
}

export interface Machine {
  readonly url: string
  readonly keys: string | null // folder; null: the server asks for none
  readonly http: string | null // URL of the gateway; null where none was asked for
  readonly pids: {
    readonly natsServer: number | null // null where it is not ours
    readonly gateway: number | null
    readonly host: number
    readonly supervisor: number
    readonly base: ReadonlyArray<number>
    readonly draft: ReadonlyArray<number>
  }
  /** Fails when an actor ends that nobody has told to; ranks are started again by their host. */
  readonly failed: Effect.Effect<never, ActorEnded>
}

/** The deployment's ranks are ready when this ends; from then on it idles as it says. */
export const startMachine = Effect.fnUntraced(function* (
  deployment: StoredDeployment,
  { nats, keys: folder = null, host: name, gateway, progress }: MachineOptions,
) {
  progress.report("Looking at the models")
  yield* checkModels(deployment)
  const ended = yield* Deferred.make<never, ActorEnded>()
  progress.report(nats === null ? "Starting nats-server" : `Connecting to ${nats}`)
  const server =
    nats === null
      ? yield* ownServer({ ended, deployment: deployment.name, ...(folder === null ? {} : { keys: folder }) })
      : null
  const url = server?.url ?? nats ?? ""
  const keys = server?.keys ?? folder ?? folderOfKeys(process.env)
  const fabric = yield* Layer.build(Nats.layer({ url, name: `${deployment.name}.up`, role: "operator", keys }))
  const http =
    gateway === undefined ? null : yield* ownGateway(natsEnvironment(url, keyIn(keys, "gateway")), gateway, ended)
  progress.report("Starting the host and the supervisor")
  // The one that is started last is ended first: sessions end while their ranks are there.
  const host = yield* startOwn(ended, "the host", "host.ts", {
    ...natsEnvironment(url, keyIn(keys, "host")),
    [ENVIRONMENT.host]: JSON.stringify({ name }),
  })
  const supervisor = yield* startOwn(
    ended,
    "the supervisor",
    "supervisor.ts",
    natsEnvironment(url, keyIn(keys, "supervisor")),
  )
  const ready = Effect.andThen(
    Effect.all([host.ready, supervisor.ready], { concurrency: "unbounded" }),
    Effect.provide(activated(deployment, progress), fabric),
  )
  const { base, draft } = yield* Effect.raceFirst(ready, Deferred.await(ended))
  const machine: Machine = {
    ...{ url, keys, http: http?.url ?? null },
    pids: {
      ...{ natsServer: server?.pid ?? null, gateway: http?.pid ?? null },
      ...{ host: host.pid, supervisor: supervisor.pid, base, draft },
    },
    failed: Deferred.await(ended),
  }
  return machine
})

/** An actor whose end is the end of the whole. */
const startOwn = Effect.fnUntraced(function* (
  ended: Deferred.Deferred<never, ActorEnded>,
  name: string,
  file: string,
  environment: Readonly<Record<string, string>>,
): Effect.fn.Return<ActorProcess, never, Scope.Scope> {
  const actor = yield* startActor({ name, file, environment })
  yield* Effect.forkScoped(Effect.flatMap(actor.ended, (how) => Deferred.fail(ended, how)))
  return actor
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
  const pids = (group: string) => pidsOf(replica, group, observed)
  return { base: pids("base"), draft: pids("draft") }
})

const tellLoading = ({ formed: epoch, deployment, ranks }: Replica, observed: Observed, progress: Progress): void => {
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
  observed: Observed,
): ReadonlyArray<number> =>
  ranks
    .filter((rank) => rank.group === group)
    .map(({ group, rank }) => {
      const beat = observed.rank({ deployment: deployment.name, epoch, group, rank })
      return beat === null || beat === "silent" ? 0 : beat.pid
    })

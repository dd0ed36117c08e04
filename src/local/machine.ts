// `chorus up`: a host and a supervisor on this machine, a nats-server where none is given, and one deployment in the bucket,
// until the scope closes. All processes end with this one, however it ends.
import { Deferred, Effect, Layer, Result, Scope, Stream, SubscriptionRef } from "effect"
import { folderOfKeys, keyIn, natsEnvironment } from "../bus/access.ts"
import { Bus } from "../bus/bus.ts"
import { type Observations, observe } from "../controller/observations.ts"
import { type Hosts, watchHosts } from "../host/hosts.ts"
import { type ActorEnded, startServing } from "../host/process.ts"
import { type Child, type ChildSpec, type GivenUp, supervised } from "../host/supervision.ts"
import { openBuckets } from "../store/deployments.ts"
import { onNats } from "../store/jetStream.ts"
import { SupervisorBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import { ENVIRONMENT, groupsOf, HTTP_ENVIRONMENT, type StoredDeployment } from "../wire/deployment.ts"
import { ActivationFailed, NoPlacement } from "../wire/errors.ts"
import { type HostedRank, placeKey } from "../wire/host.ts"
import type { Role } from "../wire/permissions.ts"
import { COLD, type Replica } from "../wire/replicas.ts"
import { subjectsOf } from "../wire/subjects.ts"
import { checkModels } from "./checkModels.ts"
import type { Progress } from "./localCluster.ts"
import { ownGateway } from "./ownGateway.ts"
import { ownFolders, ownServer } from "./ownServer.ts"

const supervisorBeats = codec("supervisor beat", SupervisorBeat)

const LOOK_MILLIS = 250

export interface MachineOptions {
  readonly nats: string | null // URL; null starts a server
  readonly keys?: string | null // folder, of a server that asks for keys; by default what the environment says
  readonly host: string // its name
  readonly gateway?: Readonly<Record<string, string>> // its environment; left out: no HTTP
  readonly progress: Progress
  readonly tell: (line: string) => void // what was started again
}

export interface Machine {
  readonly url: string
  readonly keys: string | null // folder; null: the server asks for none
  readonly http: string | null // URL of the gateway; null where none was asked for
  /** Of those that were started first. */
  readonly pids: {
    readonly natsServer: number | null // null where it is not ours
    readonly gateway: number | null
    readonly host: number
    readonly supervisor: number
    readonly base: ReadonlyArray<number>
    readonly draft: ReadonlyArray<number>
  }
  /** Fails when an actor has ended too often. */
  readonly failed: Effect.Effect<never, GivenUp>
}

/** The deployment's ranks are ready when this ends; from then on it idles as it says. */
export const startMachine = Effect.fnUntraced(function* (deployment: StoredDeployment, options: MachineOptions) {
  const { nats, keys: given = null, host: name, gateway, progress, tell } = options
  progress.report("Looking at the models")
  yield* checkModels(deployment)
  const givenUp = yield* Deferred.make<never, GivenUp>()
  const keep = <C extends Child, E extends Error>(child: string, start: ChildSpec<C, E>["start"]) => {
    const restarting = ({ message }: ActorEnded, millis: number) =>
      tell(`${message}. It is started again in ${millis} ms.`)
    return supervised({ name: child, start, restarting, running: () => tell(`${child} runs again`) }, givenUp)
  }
  progress.report(nats === null ? "Starting nats-server" : `Connecting to ${nats}`)
  const server = nats === null ? yield* keep("nats-server", yield* sameServer(deployment.name)) : null
  const url = server?.url ?? nats ?? ""
  const keys = server?.keys ?? given ?? folderOfKeys(process.env)
  const fabric = yield* Layer.build(onNats({ url, name: `${deployment.name}.up`, role: "operator", keys }))
  const showing = (role: Role) => natsEnvironment(url, keyIn(keys, role))
  const http = gateway === undefined ? null : yield* keep("the gateway", sameGateway(showing("gateway"), gateway))
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
      host: Scope.provide(keep("the host", host), ofHost),
      supervisor: Scope.provide(keep("the supervisor", supervisor), ofSupervisor),
    },
    { concurrency: "unbounded" },
  )
  yield* Effect.provide(tellRestarts(name, tell), fabric)
  yield* Effect.provide(tellStorage(deployment.name, tell), fabric)
  const failed = Deferred.await(givenUp)
  const ranks = yield* Effect.raceFirst(Effect.provide(activated(deployment, progress), fabric), failed)
  const machine: Machine = {
    ...{ url, keys, http: http?.url ?? null, failed },
    pids: {
      ...{ natsServer: server?.pid ?? null, gateway: http?.pid ?? null },
      ...{ host: actors.host.pid, supervisor: actors.supervisor.pid, ...ranks },
    },
  }
  return machine
})

/** Each time it is started it has the port, the store and the keys that it had before. */
const sameServer = (deployment: string) =>
  Effect.map(ownFolders(deployment), (place) => {
    let port: number | undefined
    const again = () => ownServer(place, port)
    return Effect.suspend(again).pipe(Effect.tap(({ url }) => Effect.sync(() => (port = Number(new URL(url).port)))))
  })

/** Likewise its port, where any was good the first time. */
const sameGateway = (nats: Readonly<Record<string, string>>, environment: Readonly<Record<string, string>>) => {
  let given = environment
  return Effect.suspend(() => ownGateway(nats, given)).pipe(
    Effect.tap(({ url }) =>
      Effect.sync(() => (given = { ...environment, [HTTP_ENVIRONMENT.port]: new URL(url).port })),
    ),
  )
}

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

// A supervisor of all deployments in the bucket: serves each as it is now, lets the sessions of a former one end, and takes
// its turn as the controller, which places and starts their ranks.
import { Effect, Equal, Exit, Layer, Queue, Scope, Semaphore, Stream, SubscriptionRef } from "effect"
import { ProcessId } from "../bus/processId.ts"
import { Traces } from "../bus/traces.ts"
import { controller } from "../controller/controller.ts"
import { type ModelShelf, modelShelf } from "../controller/models.ts"
import { type Observations, observe } from "../controller/observations.ts"
import { Presence } from "../durable/presence.ts"
import { watchHosts } from "../host/hosts.ts"
import { followReplicas, ReplicaSet } from "../replica/replicaSet.ts"
import type { Entries } from "../store/bucket.ts"
import { openBuckets } from "../store/deployments.ts"
import { holding } from "../store/lease.ts"
import { TokenLog } from "../store/tokenLog.ts"
import { type Deployment, ranksPart, type StoredDeployment } from "../wire/deployment.ts"
import type { Replicas } from "../wire/replicas.ts"
import { type Encoder, StartEncoder } from "./encoder.ts"
import { serveReaders } from "./readers.ts"
import { serve } from "./server.ts"

/** A deployment whose models are not there yet is tried again so often. */
const AGAIN_MILLIS = 5_000

const serving = Effect.gen(function* () {
  const buckets = yield* openBuckets
  const stored = yield* buckets.deployments.follow
  const records = yield* buckets.replicas.uphold
  const changes = yield* Queue.sliding<void>(1)
  const changed = (): void => void Queue.offerUnsafe(changes, undefined)
  const hosts = yield* watchHosts(changed)
  const observed = yield* observe(changed)
  const shelf = modelShelf()
  yield* SubscriptionRef.changes(stored).pipe(
    Stream.runForEach(() => Effect.sync(changed)),
    Effect.forkScoped,
  )
  const turn = controller({ stored, replicas: buckets.replicas, hosts, observed, shelf, changes, changed })
  yield* Effect.forkScoped(holding("controller", `${yield* ProcessId}`, Effect.scoped(turn)))
  yield* serveReaders("*")
  yield* follow({ stored, records, shelf, observed, encoder: yield* Effect.flatten(StartEncoder) })
})

/** Serves until the scope closes. */
export const serveAll = Effect.flatMap(Layer.build(Presence.layer), (presence) => Effect.provide(serving, presence))

interface Following {
  readonly stored: SubscriptionRef.SubscriptionRef<Entries<StoredDeployment>>
  readonly records: SubscriptionRef.SubscriptionRef<Entries<Replicas>>
  readonly shelf: ModelShelf
  readonly encoder: Encoder
  readonly observed: Observations
}

/** One that is served, and its end: at once for the requests, later for the sessions that run. */
interface Served {
  readonly deployment: Deployment
  readonly retire: Effect.Effect<void>
}

/** Serves what the bucket holds when this ends, and follows it. */
const follow = Effect.fnUntraced(function* (following: Following) {
  const { stored } = following
  const served = new Map<string, Served>()
  const turn = Semaphore.makeUnsafe(1)
  const parent = yield* Effect.scope

  const change = Effect.fnUntraced(function* (all: Entries<StoredDeployment>) {
    for (const name of new Set([...all.keys(), ...served.keys()])) {
      const before = served.get(name)
      const now = all.get(name)?.value
      const deployment = now === undefined ? null : servedPart(now)
      if (deployment !== null && before !== undefined && Equal.equals(deployment, before.deployment)) continue
      served.delete(name)
      // The new one listens before the old one leaves, so there is always one to ask.
      if (deployment !== null) {
        const retire = yield* serveOne(following, deployment).pipe(
          Effect.catch((error) => Effect.as(Effect.logWarning(`${name} is not served here: ${error.message}`), null)),
        )
        if (retire !== null) served.set(name, { deployment, retire })
      }
      if (before !== undefined) yield* Effect.forkIn(before.retire, parent)
    }
  })
  const look = turn.withPermits(1)(Effect.suspend(() => change(SubscriptionRef.getUnsafe(stored))))
  yield* look
  yield* SubscriptionRef.changes(stored).pipe(
    Stream.runForEach(() => look),
    Effect.forkScoped,
  )
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(AGAIN_MILLIS), look)))
})

/** What a deployment has to be served anew for: what its ranks are told, and its limits. */
const servedPart = ({ idleTimeoutMillis, replicas, standby, ...deployment }: StoredDeployment): Deployment => deployment

/** Gives what retires it: ends when its last session has, or has been handed to the supervisor that serves the deployment now. */
const serveOne = Effect.fnUntraced(function* (following: Following, deployment: Deployment) {
  const { stored, records, shelf, encoder, observed } = following
  const now = () => SubscriptionRef.getUnsafe(stored).get(deployment.name)?.value
  const removed = () => now() === undefined
  const current = () => {
    const wanted = now()
    return wanted !== undefined && Equal.equals(ranksPart(wanted), ranksPart(deployment))
  }
  const { base } = yield* shelf.open(deployment)
  yield* Effect.forkScoped(encoder.warm(base))
  const scope = yield* Scope.fork(yield* Effect.scope)
  const services = yield* Layer.build(
    Layer.mergeAll(
      TokenLog.layer(deployment),
      Traces.layer(deployment.name),
      Layer.effect(
        ReplicaSet,
        followReplicas({
          ...{ deployment, current, removed, records, tokenizer: base.tokenizer },
          running: (epoch) => observed.sessions(deployment.name, epoch),
        }),
      ),
    ),
  ).pipe(Scope.provide(scope))
  const { retire } = yield* serve({ deployment, base, encoder, succeeded: () => !removed() }).pipe(
    Effect.provide(services),
    Scope.provide(scope),
  )
  return Effect.andThen(retire, Scope.close(scope, Exit.void))
})

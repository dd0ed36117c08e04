// A deployment's admission: its limits, from what it says itself and from the memory that its ranks have, and the beat that
// tells others how things stand.
import { randomUUID } from "node:crypto"
import { Effect, Stream, SubscriptionRef } from "effect"
import { Bus, beating } from "../bus/bus.ts"
import { ProcessId } from "../bus/processId.ts"
import { ReplicaSet } from "../replica/replicaSet.ts"
import { Storage } from "../store/storage.ts"
import { SUPERVISOR_BEAT_MILLIS, SupervisorBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import type { Deployment } from "../wire/deployment.ts"
import { subjectsOf } from "../wire/subjects.ts"
import type { Limits } from "./admission.ts"
import { admissionQueue, type Census } from "./admissionQueue.ts"

const beats = codec("supervisor beat", SupervisorBeat)

const QUEUE = 256

/** Admits, and beats, until the scope closes. */
export const admissionOf = Effect.fnUntraced(function* (deployment: Deployment) {
  const { capacity, kept } = yield* ReplicaSet
  const { context, kvTokens = context } = deployment
  const limits = (tokens: number): Limits => ({
    kvTokens: Math.max(tokens, Math.min(context, kvTokens)), // a session may wait for ranks to be ready, and for its turn
    queue: deployment.queue ?? QUEUE,
    clientSessions: deployment.clientSessions ?? null,
  })
  const admission = yield* admissionQueue({
    ...{ deployment: deployment.name, limits: limits(yield* SubscriptionRef.get(capacity)) },
  })
  const things = () => ({
    ...admission.census(),
    ...{ serving: SubscriptionRef.getUnsafe(capacity) > 0, kvTokensKept: kept() },
  })
  const beat = yield* announce(deployment.name, things)
  yield* SubscriptionRef.changes(capacity).pipe(
    Stream.runForEach((tokens) => Effect.andThen(admission.limit(limits(tokens)), beat)),
    Effect.forkScoped,
  )
  return admission
})

type Things = Census & Pick<SupervisorBeat, "serving" | "kvTokensKept">

/** Gives what beats at once. */
const announce = Effect.fnUntraced(function* (deployment: string, things: () => Things) {
  const { publish } = yield* Bus
  const { health } = yield* Storage
  const pid = yield* ProcessId
  const id = randomUUID().slice(0, 8)
  const subject = subjectsOf(deployment).beat(`supervisor.${id}`)
  const say = (state: SupervisorBeat["state"]): void => {
    const { progress, ...rest } = things()
    const storage = health.reason(performance.now())
    const message: SupervisorBeat = {
      ...{ _tag: "SupervisorBeat", id, deployment, pid, state },
      ...rest,
      ...progress,
      ...(storage === "" ? {} : { storage }),
    }
    publish(subject, beats.encode(message))
  }
  yield* Effect.addFinalizer(() => Effect.sync(() => say("draining")))
  return yield* beating(SUPERVISOR_BEAT_MILLIS, () => say("ready"))
})

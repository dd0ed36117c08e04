// A deployment's admission: its limits, from what it says itself and from the memory that its ranks have, and the beat that
// tells others how things stand.
import { randomUUID } from "node:crypto"
import { Effect, SubscriptionRef } from "effect"
import type { Group } from "../fabric/group.ts"
import { Nats } from "../fabric/nats.ts"
import { SUPERVISOR_BEAT_MILLIS, SupervisorBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import type { Deployment } from "../wire/deployment.ts"
import { subjectsOf } from "../wire/subjects.ts"
import { Models } from "../workflow/generation.ts"
import type { Limits } from "./admission.ts"
import { type Admitting, admitting } from "./admitting.ts"

const beats = codec("supervisor beat", SupervisorBeat)

const QUEUE = 256
const KEEP_MILLIS = 60_000

/** Admits, and beats, until the scope closes. */
export const admissionOf = Effect.fnUntraced(function* (deployment: Deployment) {
  const { base, draft } = yield* Models
  const groups = draft === null ? [base] : [base, draft]
  const limits = (): Limits => ({
    kvTokens: deployment.kvTokens ?? Math.max(deployment.context, tokensOf(groups)),
    queue: deployment.queue ?? QUEUE,
    clientSessions: deployment.clientSessions ?? null,
  })
  const admission = yield* admitting({
    ...{ deployment: deployment.name, limits: limits(), keepMillis: deployment.keepMillis ?? KEEP_MILLIS },
  })
  yield* announce(deployment.name, admission)
  return admission
})

/** Tokens that every rank has memory for. Ranks may share a machine, so each counts on its part of what it finds free. */
const tokensOf = (groups: ReadonlyArray<Group>): number => {
  const ranks = groups.flatMap(({ beats }) => [...SubscriptionRef.getUnsafe(beats).values()])
  return Math.floor(Math.min(...ranks.map(({ kvTokens }) => kvTokens)) / Math.max(1, ranks.length))
}

const announce = Effect.fnUntraced(function* (deployment: string, { census }: Admitting) {
  const { connection } = yield* Nats
  const id = randomUUID().slice(0, 8)
  const subject = subjectsOf(deployment).beat(`supervisor.${id}`)
  const beat = (state: SupervisorBeat["state"]) =>
    Effect.sync(() => {
      const { progress, ...rest } = census()
      const message: SupervisorBeat = {
        ...{ _tag: "SupervisorBeat", id, deployment, pid: process.pid, state },
        ...rest,
        ...progress,
      }
      if (!connection.isClosed()) connection.publish(subject, beats.encode(message))
    })
  yield* Effect.addFinalizer(() => beat("draining"))
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(beat("ready"), Effect.sleep(SUPERVISOR_BEAT_MILLIS))))
})

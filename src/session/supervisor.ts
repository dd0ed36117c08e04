// A supervisor of one deployment whose ranks others start: opens the base for its tokenizer, waits for the ranks, serves.
import { Effect, Layer, SubscriptionRef } from "effect"
import { Traces } from "../bus/traces.ts"
import { Presence } from "../durable/presence.ts"
import { type Group, join } from "../group/group.ts"
import { healthPass } from "../group/healthPass.ts"
import { open } from "../model/index.ts"
import { draftBatcher } from "../replica/draftBatcher.ts"
import { abort, type Ready } from "../replica/link.ts"
import { kvTokensOf } from "../replica/memory.ts"
import { prefixCache } from "../replica/prefixCache.ts"
import { ReplicaSet, type Waiting } from "../replica/replicaSet.ts"
import { TokenLog } from "../store/tokenLog.ts"
import type { Deployment } from "../wire/deployment.ts"
import { StartEncoder } from "./encoder.ts"
import { serveReaders } from "./readers.ts"
import { serve } from "./server.ts"

export interface SupervisorOptions {
  readonly deployment: Deployment
  readonly epoch: number // of its ranks
}

export const supervisor = Effect.fnUntraced(function* ({ deployment, epoch }: SupervisorOptions) {
  const base = yield* join({ deployment: deployment.name, group: deployment.base, epoch })
  const draft =
    deployment.draft === null
      ? null
      : yield* Effect.flatMap(join({ deployment: deployment.name, group: deployment.draft, epoch }), (group) =>
          draftBatcher(group, deployment.draft?.strategy ?? "single"),
        )
  const model = yield* open(deployment.base.model, { context: deployment.context })
  yield* Effect.forEach(model.warnings, (warning) => Effect.logWarning(warning), { discard: true })
  const encoder = yield* Effect.flatten(StartEncoder)
  yield* Effect.forkScoped(encoder.warm(model)) // while the ranks load
  yield* Effect.forEach(groupsOf(base, draft), (group) => Effect.andThen(group.ready, healthPass(group)), {
    ...{ concurrency: "unbounded", discard: true },
  })
  const models: Ready = {
    ...{ base, draft, prefill: null, tokenizer: model.tokenizer, learned: { current: undefined } },
    prefixes: yield* prefixCache(deployment.keepMillis),
  }
  const services = yield* Layer.build(
    Layer.mergeAll(
      ...([
        TokenLog.layer(deployment),
        Traces.layer(deployment.name),
        only(deployment, models),
        Presence.layer,
      ] as const),
    ),
  )
  yield* serveReaders(deployment.name)
  // Its ranks are those of one process, which ends them.
  yield* Effect.provide(serve({ deployment, base: model, encoder, succeeded: () => false }), services)
})

/** The one replica that there is and will be. */
const only = (deployment: Deployment, models: Ready) =>
  Layer.effect(
    ReplicaSet,
    Effect.gen(function* () {
      const tokens = kvTokensOf(deployment, groupsOf(models.base, models.draft))
      const { prefixes } = models
      let reserved = 0
      const claim = ({ prompt, tokens: wanted }: Pick<Waiting, "prompt" | "tokens">) =>
        Effect.acquireRelease(
          Effect.suspend(() => {
            reserved += wanted
            return prefixes.fit(tokens - reserved, prompt)
          }),
          () => Effect.sync(() => (reserved -= wanted)),
        )
      return ReplicaSet.of({
        ...{ admit: Effect.void, capacity: yield* SubscriptionRef.make(tokens), kept: prefixes.tokens },
        over: Effect.never,
        free: (session) => abort(models, session),
        take: (waiting) =>
          Effect.as(Effect.andThen(waiting.admitted.begin, claim(waiting)), {
            models,
            coldStart: null,
            leaves: () => false,
          }),
      })
    }),
  )

const groupsOf = (base: Group, draft: Group | null): ReadonlyArray<Group> => (draft === null ? [base] : [base, draft])

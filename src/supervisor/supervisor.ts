// One supervisor from its options: opens the base for its tokenizer, joins the groups, waits for their ranks, and serves.
import { Effect, Layer } from "effect"
import { type Group, join } from "../fabric/group.ts"
import { TokenLog } from "../fabric/tokenLog.ts"
import { Traces } from "../fabric/traces.ts"
import { open } from "../model/index.ts"
import type { Deployment } from "../wire/deployment.ts"
import { Models } from "../workflow/generation.ts"
import { serve } from "./server.ts"
import { draftingTogether } from "./togetherness.ts"

export interface SupervisorOptions {
  readonly deployment: Deployment
  readonly epoch: number // of its groups
}

export const supervisor = Effect.fnUntraced(function* ({ deployment, epoch }: SupervisorOptions) {
  const base = yield* join({ deployment: deployment.name, group: deployment.base, epoch })
  const draft =
    deployment.draft === null
      ? null
      : yield* Effect.flatMap(join({ deployment: deployment.name, group: deployment.draft, epoch }), (group) =>
          draftingTogether(group, deployment.draft?.strategy ?? "single"),
        )
  const model = yield* open(deployment.base.model, { context: deployment.context })
  model.tokenizer.warm() // while the ranks load
  yield* Effect.all(
    groupsOf(base, draft).map(({ ready }) => ready),
    { concurrency: "unbounded" },
  )
  const services = yield* Layer.build(
    Layer.mergeAll(
      TokenLog.layer(deployment),
      Traces.layer(deployment.name),
      Layer.succeed(Models, { base, draft, tokenizer: model.tokenizer, learned: { current: undefined } }),
    ),
  )
  yield* Effect.provide(serve(deployment, model), services)
})

const groupsOf = (base: Group, draft: Group | null): ReadonlyArray<Group> => (draft === null ? [base] : [base, draft])

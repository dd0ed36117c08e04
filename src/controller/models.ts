// The models of this process's deployments, each file opened once: their tokenizers, and what their ranks need.
import { Effect } from "effect"
import type { Shard } from "../../native/index.ts"
import {
  type Model,
  type ModelError,
  memoryNeeded,
  OpenModel,
  sameVocabulary,
  type VocabularyMismatch,
  wholeShard,
} from "../model/index.ts"
import { shardsOf } from "../rank/strategy/strategies.ts"
import { type Deployment, type Group, groupsOf } from "../wire/deployment.ts"
import type { RankNeed } from "./placement.ts"

export interface Opened {
  readonly base: Model
  readonly needs: ReadonlyArray<RankNeed> // of the ranks
  readonly standbys: ReadonlyArray<RankNeed> // of each group's standby; which number it gets is still to be said
}

export interface ModelShelf {
  /** Fails where a model is not there, is corrupt, has a shorter context, or where the pair's vocabularies differ. */
  readonly open: (deployment: Deployment) => Effect.Effect<Opened, ModelError | VocabularyMismatch>
}

export const modelShelf = (): ModelShelf => {
  const known = new Map<string, Model>()
  const take = Effect.fnUntraced(function* (path: string, context: number) {
    const key = `${path} ${context}`
    const there = known.get(key)
    if (there !== undefined) return there
    const open = yield* OpenModel
    const model = yield* open(path, { context })
    yield* Effect.forEach(model.warnings, (warning) => Effect.logWarning(warning), { discard: true })
    known.set(key, model)
    return model
  })
  return {
    open: Effect.fnUntraced(function* (deployment) {
      const { base, draft, context } = deployment
      const model = yield* take(base.model, context)
      if (draft !== null) yield* sameVocabulary(model, yield* take(draft.model, context))
      const groups = yield* Effect.forEach(groupsOf(deployment), (group) =>
        Effect.map(take(group.model, context), (model) => ({ group, model })),
      )
      return {
        base: model,
        needs: groups.flatMap(({ group, model }) => needsOf(deployment, group, model)),
        standbys: groups.map(({ group, model }) =>
          needOf(deployment, group, model, wholeShard(model.shape), group.ranks),
        ),
      }
    }),
  }
}

const needsOf = (deployment: Deployment, group: Group, model: Model): ReadonlyArray<RankNeed> =>
  shardsOf(group, model.shape, deployment.fuzzy).map((shard, rank) => needOf(deployment, group, model, shard, rank))

/** KV is that of one session at its longest: more of them share it, or wait. */
const needOf = ({ context }: Deployment, group: Group, model: Model, shard: Shard, rank: number): RankNeed => {
  const { weights, kv } = memoryNeeded(model, shard, context)
  const { name, threads, device } = group
  return { group: name, rank, model: group.model, modelBytes: model.bytes, weights, kv, threads, device }
}

// What is wrong with the models of a deployment that runs on this machine is said before anything is started.
import { Effect } from "effect"
import { open, requireMemory, sameVocabulary, wholeShard } from "../model/index.ts"
import type { Deployment } from "../wire/deployment.ts"

export const checkModels = Effect.fnUntraced(function* ({ base, draft, context }: Deployment) {
  const model = yield* open(base.model, { context })
  // Ranks on one machine map the same files, so each model counts once; KV is that of one session at its longest.
  const free = process.availableMemory()
  const { total } = yield* requireMemory(model, wholeShard(model.shape), context, free)
  if (draft === null) return
  const drafting = yield* open(draft.model, { context })
  yield* sameVocabulary(model, drafting)
  yield* requireMemory(drafting, wholeShard(drafting.shape), context, free - total)
})

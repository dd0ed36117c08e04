// The draft group as a proposer: calibrate and draft, one command. It replaces the fuzzy KV by exact KV for what was accepted
// and the bonus token (EasySpec, section 3.2), and grows the tree from there.
import { Effect } from "effect"
import type { Group } from "../group/group.ts"
import { nodeOf } from "../speculation/indices.ts"
import type { TreeShape } from "../speculation/tree.ts"
import { UnknownSession } from "../wire/errors.ts"
import type { DraftedTree } from "../wire/pass.ts"
import { activity } from "./activity.ts"
import { CHUNK, prefill } from "./prefill.ts"
import type { Proposer } from "./proposer.ts"
import { measure } from "./speculationControl.ts"
import { type Generation, holding } from "./state.ts"

export const draftGroup = (group: Group): Proposer => ({
  propose: Effect.fnUntraced(function* (before, shape) {
    const [{ answer, millis, bytes }, generation] = yield* caughtUp(before, group, shape)
    const [tree] = answer.trees
    const { run, journal } = generation
    run.tally.pass("calibrate", tree.calibrate, null)
    run.tally.pass("draft", tree.draft, { millis: millis - tree.calibrate.millis, bytes })
    // As the ranks say it: what is no node would be taken for another one.
    const proposal = { ...tree, parents: tree.parents.map(nodeOf) }
    return [proposal, holding(learned(generation, tree), { draft: { committed: journal.tokens.length } })] as const
  }),
})

const learned = (generation: Generation, { calibrate, draft, steps }: DraftedTree): Generation => {
  const { journal, placed } = generation
  const computing = draft.millis > 0 ? draft.computeMillis / draft.millis : 0
  const calibrated = measure(generation, "calibrate", journal.tokens.length - placed.draft.committed, calibrate)
  return steps.reduce(
    (after, { rows, millis }) => measure(after, "steps", rows, { millis, computeMillis: millis * computing }),
    calibrated,
  )
}

/** A rank that has lost the session, or a part of it, gets what it lacks: by calibration where that is little. */
const caughtUp = Effect.fnUntraced(function* (before: Generation, group: Group, shape: TreeShape) {
  let generation = before
  for (;;) {
    const filled = yield* Effect.catchTag(catchUp(generation, group), "UnknownSession", Effect.succeed)
    if (!(filled instanceof UnknownSession)) generation = filled
    const drafted =
      filled instanceof UnknownSession
        ? filled
        : yield* Effect.catchTag(tree(filled, group, shape), "UnknownSession", Effect.succeed)
    if (!(drafted instanceof UnknownSession)) return [drafted, generation] as const
    const held = Math.max(0, drafted.actual)
    if (held >= generation.placed.draft.committed) return yield* drafted
    generation = holding(generation, { draft: { committed: held } })
  }
})

const LOOK = 16 // tokens

/** A few tokens, from which the adaptive control knows whether the draft can pay at all. */
export const firstLook = (generation: Generation, group: Group) =>
  prefill(generation, group, 0, Math.min(LOOK, generation.journal.tokens.length - 1))

/** Leaves the draft behind by no more than calibration takes: that is what one iteration accepts, and some more. */
export const catchUp = (generation: Generation, group: Group) => {
  const { committed } = generation.placed.draft
  const last = generation.journal.tokens.length - 1
  if (committed > 0 && last - committed < CHUNK) return Effect.succeed(generation)
  return prefill(generation, group, committed, last)
}

const tree = ({ run, journal, placed }: Generation, group: Group, shape: TreeShape) => {
  const { committed } = placed.draft
  const session = { session: run.kv, committed, accepted: journal.tokens.slice(committed), ...shape }
  return activity(run.name("draft"), group.draft({ _tag: "Draft", fuzzy: run.request.fuzzy, sessions: [session] }))
}

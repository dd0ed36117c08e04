// Calibrate and draft: one command to the draft group. It replaces the fuzzy KV by exact KV for what was accepted and the
// bonus token (EasySpec, section 3.2), and grows the tree from there.
import { Effect } from "effect"
import type { Group, Timed } from "../group/group.ts"
import type { TreeShape } from "../speculation/tree.ts"
import type { TokenLog } from "../store/tokenLog.ts"
import type { Drafted } from "../wire/pass.ts"
import { activity } from "./activity.ts"
import type { GenerateError } from "./errors.ts"
import { CHUNK, prefill } from "./prefill.ts"
import type { Models } from "./services.ts"
import { measure } from "./speculationControl.ts"
import type { Generation } from "./state.ts"

export const draft = Effect.fnUntraced(function* (generation: Generation, group: Group, shape: TreeShape) {
  const { answer, millis, bytes } = yield* caughtUp(generation, group, shape)
  const [tree] = answer.trees
  measure(generation, "calibrate", generation.tokens.length - generation.draft.committed, tree.calibrate)
  const computing = tree.draft.millis > 0 ? tree.draft.computeMillis / tree.draft.millis : 0
  for (const { rows, millis } of tree.steps) {
    measure(generation, "steps", rows, { millis, computeMillis: millis * computing })
  }
  generation.draft = { committed: generation.tokens.length }
  generation.tally.pass("calibrate", tree.calibrate, null)
  generation.tally.pass("draft", tree.draft, { millis: millis - tree.calibrate.millis, bytes })
  return tree
})

/** A rank that has lost the session, or a part of it, gets what it lacks: by calibration where that is little. */
const caughtUp = (
  generation: Generation,
  group: Group,
  shape: TreeShape,
): Effect.Effect<Timed<Drafted>, GenerateError, Models | TokenLog> =>
  catchUp(generation, group).pipe(
    Effect.andThen(Effect.suspend(() => tree(generation, group, shape))),
    Effect.catchTag("UnknownSession", (lost) => {
      const held = Math.max(0, lost.actual)
      if (held >= generation.draft.committed) return Effect.fail(lost)
      generation.draft = { committed: held }
      return caughtUp(generation, group, shape)
    }),
  )

const LOOK = 16 // tokens

/** A few tokens, from which the adaptive control knows whether the draft can pay at all. */
export const firstLook = Effect.fnUntraced(function* (generation: Generation, group: Group) {
  const to = Math.min(LOOK, generation.tokens.length - 1)
  yield* prefill(generation, group, 0, to)
  generation.draft = { committed: to }
})

/** Leaves the draft behind by no more than calibration takes: that is what one iteration accepts, and some more. */
export const catchUp = Effect.fnUntraced(function* (generation: Generation, group: Group) {
  const { committed } = generation.draft
  const last = generation.tokens.length - 1
  if (committed > 0 && last - committed < CHUNK) return
  yield* prefill(generation, group, committed, last)
  generation.draft = { committed: last }
})

const tree = (generation: Generation, group: Group, shape: TreeShape) =>
  activity(
    `draft/${generation.passes++}`,
    group.draft({
      _tag: "Draft",
      fuzzy: generation.request.fuzzy,
      sessions: [
        {
          session: generation.kv,
          committed: generation.draft.committed,
          accepted: generation.tokens.slice(generation.draft.committed),
          ...shape,
        },
      ],
    }),
  )

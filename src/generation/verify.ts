// Verify: one exact pass of the base group over the bonus token and the draft tree.
import { Effect } from "effect"
import type { Group } from "../group/group.ts"
import type { Tree } from "../speculation/tree.ts"
import { activity } from "./activity.ts"
import { asked } from "./logProbs.ts"
import { refill } from "./prefill.ts"
import { measure } from "./speculationControl.ts"
import type { Generation } from "./state.ts"

export type Proposed = Pick<Tree, "tokens" | "parents">

/** The base's own choice after the bonus token, and after each node of the tree. */
export const verify = Effect.fnUntraced(function* (generation: Generation, group: Group, tree: Proposed) {
  const verified = yield* Effect.catchTag(rows(generation, group, tree), "UnknownSession", (lost) =>
    Effect.andThen(
      refill(generation, group, lost),
      Effect.suspend(() => rows(generation, group, tree)),
    ),
  )
  const { answer, millis, bytes } = verified
  measure(generation, "verify", 1 + tree.tokens.length, { ...answer.cost, millis })
  generation.tally.pass("verify", answer.cost, { millis, bytes })
  return answer
})

const rows = (generation: Generation, group: Group, { tokens, parents }: Proposed) => {
  const last = generation.tokens.length - 1
  return activity(
    `verify/${generation.passes++}`,
    group.verify({
      _tag: "Verify",
      session: generation.kv,
      committed: generation.base.committed + generation.base.acceptedRows.length,
      acceptedRows: generation.base.acceptedRows,
      tokens: [generation.tokens[last] ?? 0, ...tokens],
      parents: [-1, ...parents.map((parent) => parent + 1)], // row 0 is the root, node i is row i + 1
      ...asked(generation.request),
    }),
  )
}

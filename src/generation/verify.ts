// Verify: one exact pass of the base group over the bonus token and the draft tree.
import { Effect } from "effect"
import { rowOf } from "../speculation/indices.ts"
import { activity } from "./activity.ts"
import { asked } from "./logProbs.ts"
import { onBase } from "./prefill.ts"
import type { Proposal } from "./proposer.ts"
import { measure } from "./speculationControl.ts"
import type { Generation } from "./state.ts"

/** The base's own choice after the bonus token, and after each node of the tree. */
export const verify = Effect.fnUntraced(function* (before: Generation, tree: Proposal) {
  const [{ answer, millis, bytes }, generation] = yield* onBase(before, (generation) => rows(generation, tree))
  generation.run.tally.pass("verify", answer.cost, { millis, bytes })
  return [answer, measure(generation, "verify", 1 + tree.tokens.length, { ...answer.cost, millis })] as const
})

const rows = ({ run, journal, placed }: Generation, { tokens, parents }: Proposal) => {
  const { base, models } = placed
  const command = {
    session: run.kv,
    committed: base.committed + base.acceptedRows.length,
    acceptedRows: base.acceptedRows,
    tokens: [journal.tokens.at(-1) ?? 0, ...tokens],
    parents: [-1, ...parents.map(rowOf)],
    ...asked(run.request),
  }
  return activity(run.name("verify"), models.base.verify({ _tag: "Verify", ...command }))
}

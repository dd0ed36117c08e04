// What a session that was asked to (`trace` of its request) says of each drafting iteration, while it goes on: for those who
// watch, and so neither stored nor repeated.
import { Schema } from "effect"
import { Count } from "./scalar.ts"

/** A token by itself. Half a character shows as U+FFFD here; the token log has it whole. */
const Text = Schema.String

/** The draft tree of one iteration and what became of it. Its root is the bonus token, which has no node. */
export const IterationTrace = Schema.TaggedStruct("Iteration", {
  at: Count, // position of the first accepted token among the answer's
  root: Text,
  tokens: Schema.Array(Schema.Struct({ id: Count, text: Text })),
  parents: Schema.Array(Schema.Int), // nodes; -1 is the root
  logProbs: Schema.Array(Schema.Finite), // of the whole path, by the draft
  path: Schema.Array(Count), // nodes that were accepted, from the root down
  bonus: Text, // the base's own token after them
  fuzzy: Count, // N
  millis: Schema.Finite, // of the whole iteration
})
export type IterationTrace = typeof IterationTrace.Type

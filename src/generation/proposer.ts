// Where draft trees come from. Whatever a proposer proposes, the answer stays the same: the base decides, and a proposal
// only saves it time.
import type { Effect } from "effect"
import type { Tree, TreeShape } from "../speculation/tree.ts"
import type { TokenLog } from "../store/tokenLog.ts"
import type { GenerateError } from "./errors.ts"
import type { Generation } from "./state.ts"

/** A tree that grows from the bonus token: a parent stands before its children, and no two of one parent are the same token. */
export type Proposal = Pick<Tree, "tokens" | "parents" | "logProbs">

export interface Proposer {
  /** At most a tree of this shape, and the state after what it took. */
  readonly propose: (
    generation: Generation,
    shape: TreeShape,
  ) => Effect.Effect<readonly [Proposal, Generation], GenerateError, TokenLog>
}

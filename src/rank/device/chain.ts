// Rows one after the other.
import type { Segment } from "../../../native/index.ts"
import type { Position } from "../../speculation/indices.ts"

/**
 * Tokens from a position on, which is their slot too, since all before are committed. Each is the child of the one before; -1 is
 * the parent of a sequence's first token.
 */
export const chain = (session: string, from: Position, tokens: ReadonlyArray<number>): Segment => {
  const parents = new Int32Array(tokens.length)
  for (let row = 0; row < parents.length; row++) parents[row] = from + row - 1
  return { session, tokens: new Int32Array(tokens), parents }
}

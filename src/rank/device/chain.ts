// Rows one after the other.
import type { Segment } from "../../../native/index.ts"

/** Tokens from slot `committed` on, each the child of the one before; -1 is the parent of a sequence's first token. */
export const chain = (session: string, committed: number, tokens: ReadonlyArray<number>): Segment => {
  const parents = new Int32Array(tokens.length)
  for (let row = 0; row < parents.length; row++) parents[row] = committed + row - 1
  return { session, tokens: new Int32Array(tokens), parents }
}

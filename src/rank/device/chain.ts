// Rows one after the other.
import type { Segment } from "../../../native/index.ts"

/** Tokens from slot `committed` on, each the child of the one before; -1 is the parent of a sequence's first token. */
export const chain = (session: string, committed: number, tokens: ReadonlyArray<number>): Segment => ({
  session,
  tokens: Int32Array.from(tokens),
  parents: Int32Array.from(tokens, (_, row) => committed + row - 1),
})

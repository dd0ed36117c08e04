// The five ways to count what a draft is made of. All are whole numbers, and one that stands for another is a wrong token
// that nobody notices, so each is a type of its own: a number becomes one here, and one becomes another by the rule that
// stands beside it.

declare const space: unique symbol
type Index<Space extends string> = number & { readonly [space]: Space }

/** A token that was drafted, in the order of drafting; ROOT is the bonus token, from which the tree grows. */
export type Node = Index<"node">
/** A token of a verify pass: row 0 is the bonus token's, and the nodes follow. */
export type Row = Index<"row">
/** A place in a session's KV: the committed tokens' come first, then those of the tree. */
export type Slot = Index<"slot">
/** A token's place in its text. What the sampler draws depends on it. */
export type Position = Index<"position">
/** A message on the critical path between ranks, from 1 on, within one pass. */
export type Hop = Index<"hop">

const index = <Space extends string>(space: Space, value: number, least: number): Index<Space> => {
  if (!Number.isInteger(value) || value < least) throw new RangeError(`${value} is no ${space}`)
  return value as Index<Space>
}

export const nodeOf = (value: number): Node => index("node", value, -1)
export const positionOf = (value: number): Position => index("position", value, 0)
export const hopOf = (value: number): Hop => index("hop", value, 1)

export const ROOT: Node = nodeOf(-1)

/** A node's row, and the root's. */
export const rowOf = (node: Node): Row => index("row", node + 1, 0)

/** A row as a command says it, which was checked (rank/pass/check.ts). */
export const rowFrom = (value: number): Row => index("row", value, 0)

/** A row of the pass that builds on so many committed tokens. */
export const slotOfRow = (committed: number, row: Row): Slot => index("slot", committed + row, 0)

/** A committed token's. -1 is what stands before a text's first one. */
export const slotAt = (value: number): Slot => index("slot", value, -1)

// The rows of a draft step on their way from the leader, who has the tree, to the other ranks: tokens, then the slots of
// their parents, 32 bits each, little-endian. They ride with the step's first activation.
import type { Segment } from "../../native/index.ts"

export const packFrontier = ({ tokens, parents }: Segment): Uint8Array => {
  const packed = new Uint8Array(8 * tokens.length)
  const view = new DataView(packed.buffer)
  tokens.forEach((token, row) => view.setInt32(4 * row, token, true))
  parents.forEach((slot, row) => view.setInt32(4 * (tokens.length + row), slot, true))
  return packed
}

export const unpackFrontier = (session: string, packed: Uint8Array): Segment => {
  const rows = Math.floor(packed.byteLength / 8)
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength)
  return {
    session,
    tokens: Int32Array.from({ length: rows }, (_, row) => view.getInt32(4 * row, true)),
    parents: Int32Array.from({ length: rows }, (_, row) => view.getInt32(4 * (rows + row), true)),
  }
}

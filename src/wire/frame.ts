// The binary frame: what ranks send one another in bulk, and so not as msgpack. Its first two bytes say what follows: an
// activation (activation.ts), KV (kv.ts), or a part of either that is larger than the server's max_payload (part.ts).
export const MARKS = { activation: 1, kv: 0xfe01, part: 0xff01 } as const

/** As the first field is written, little-endian; no frame's where there are no two bytes. */
export const markOf = (message: Uint8Array): number => (message[0] ?? 0) | ((message[1] ?? 0) << 8)

/** Writes bytes [from, to) of blocks that lie one after the other, as if they were one, at an offset of a message. */
export const copyBlocks = (
  blocks: ReadonlyArray<Uint8Array>,
  { from, to }: { readonly from: number; readonly to: number },
  message: Uint8Array,
  at: number,
): void => {
  let begin = 0 // of the block, among all
  for (const block of blocks) {
    const [first, last] = [Math.max(from, begin), Math.min(to, begin + block.byteLength)]
    if (first < last) message.set(block.subarray(first - begin, last - begin), at + first - from)
    begin += block.byteLength
  }
}

export const bytesOf = (blocks: ReadonlyArray<Uint8Array>): number =>
  blocks.reduce((sum, { byteLength }) => sum + byteLength, 0)

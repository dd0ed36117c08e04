// A part of an activation, or of a KV delta, that is larger than the server's max_payload: a header of 24 bytes, then a piece
// of the encoded message. Parts of one message share everything but `index`; the receiver puts them together again.
import { Result } from "effect"
import { MalformedMessage } from "./errors.ts"
import { bytesOf, copyBlocks, MARKS, markOf } from "./frame.ts"

export interface Part {
  readonly epoch: number
  readonly pass: number
  readonly attempt: number
  readonly step: number
  readonly rank: number // the sender
  readonly index: number
  readonly count: number // parts in all
  readonly piece: Uint8Array
}

export const PART_HEADER_BYTES = 24

/** How many messages an activation of this many bytes needs. */
export const partsOf = (bytes: number, maxPayload: number): number =>
  bytes <= maxPayload ? 1 : Math.ceil(bytes / (maxPayload - PART_HEADER_BYTES))

export const isPart = (message: Uint8Array): boolean => markOf(message) === MARKS.part

/** Cuts an encoded frame, which may lie in several blocks, into messages of at most `maxPayload` bytes. Every byte is copied once. */
export const split = (
  of: Omit<Part, "index" | "count" | "piece">,
  frame: ReadonlyArray<Uint8Array>,
  maxPayload: number,
): ReadonlyArray<Uint8Array> => {
  const bytes = bytesOf(frame)
  const count = partsOf(bytes, maxPayload)
  const size = Math.ceil(bytes / count)
  return Array.from({ length: count }, (_, index) => {
    const piece = { from: index * size, to: Math.min(bytes, (index + 1) * size) }
    const message = begin({ ...of, index, count }, piece.to - piece.from)
    copyBlocks(frame, piece, message, PART_HEADER_BYTES)
    return message
  })
}

/** A part with room for its piece. */
const begin = (part: Omit<Part, "piece">, bytes: number): Uint8Array => {
  const message = new Uint8Array(PART_HEADER_BYTES + bytes)
  const view = new DataView(message.buffer)
  view.setUint16(0, MARKS.part, true)
  view.setUint16(2, part.step, true)
  view.setUint16(4, part.rank, true)
  view.setUint16(6, part.attempt, true)
  view.setUint32(8, part.epoch, true)
  view.setUint32(12, part.pass, true)
  view.setUint32(16, part.index, true)
  view.setUint32(20, part.count, true)
  return message
}

export const decode = (message: Uint8Array): Result.Result<Part, MalformedMessage> => {
  if (message.byteLength <= PART_HEADER_BYTES) {
    return malformed("piece", `more than ${PART_HEADER_BYTES} bytes in all`, message.byteLength)
  }
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  const mark = view.getUint16(0, true)
  if (mark !== MARKS.part) return malformed("mark", `${MARKS.part}`, mark)
  const index = view.getUint32(16, true)
  const count = view.getUint32(20, true)
  if (count < 2) return malformed("count", "2 or more", count)
  if (index >= count) return malformed("index", `less than ${count}`, index)
  return Result.succeed({
    epoch: view.getUint32(8, true),
    pass: view.getUint32(12, true),
    attempt: view.getUint16(6, true),
    step: view.getUint16(2, true),
    rank: view.getUint16(4, true),
    index,
    count,
    piece: message.subarray(PART_HEADER_BYTES),
  })
}

const malformed = (field: string, expected: string, actual: number) =>
  Result.fail(new MalformedMessage({ kind: "part of a message", field, reason: `expected ${expected}, got ${actual}` }))

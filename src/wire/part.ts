// A part of an activation, or of a KV delta, that is larger than the server's max_payload: a header of 24 bytes, then a piece
// of the encoded message. Parts of one message share everything but `index`; the receiver puts them together again.
import { Result } from "effect"
import { MalformedMessage } from "./errors.ts"

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

const MARK = 0xff01 // where an activation has its version; counts up with it

/** How many messages an activation of so many bytes needs. */
export const partsOf = (bytes: number, maxPayload: number): number =>
  bytes <= maxPayload ? 1 : Math.ceil(bytes / (maxPayload - PART_HEADER_BYTES))

export const isPart = (message: Uint8Array): boolean => message[0] === (MARK & 0xff) && message[1] === MARK >> 8

/** Cuts an encoded activation into messages of at most `maxPayload` bytes. */
export const split = (of: Omit<Part, "index" | "count" | "piece">, message: Uint8Array, maxPayload: number) => {
  const count = partsOf(message.byteLength, maxPayload)
  const size = Math.ceil(message.byteLength / count)
  return Array.from({ length: count }, (_, index) =>
    encode({ ...of, index, count, piece: message.subarray(index * size, (index + 1) * size) }),
  )
}

const encode = (part: Part): Uint8Array => {
  const message = new Uint8Array(PART_HEADER_BYTES + part.piece.byteLength)
  const view = new DataView(message.buffer)
  view.setUint16(0, MARK, true)
  view.setUint16(2, part.step, true)
  view.setUint16(4, part.rank, true)
  view.setUint16(6, part.attempt, true)
  view.setUint32(8, part.epoch, true)
  view.setUint32(12, part.pass, true)
  view.setUint32(16, part.index, true)
  view.setUint32(20, part.count, true)
  message.set(part.piece, PART_HEADER_BYTES)
  return message
}

export const decode = (message: Uint8Array): Result.Result<Part, MalformedMessage> => {
  if (message.byteLength <= PART_HEADER_BYTES) {
    return malformed("piece", `more than ${PART_HEADER_BYTES} bytes in all`, message.byteLength)
  }
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  const mark = view.getUint16(0, true)
  if (mark !== MARK) return malformed("mark", `${MARK}`, mark)
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

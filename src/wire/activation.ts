// An activation on the wire: a fixed header of 48 bytes, then hidden states or attention outputs, f32. It is a
// frame, because it is the hot path: nothing is copied on the way in, and a failure names the field.
import { Result } from "effect"
import { MalformedMessage } from "./errors.ts"
import { MARKS } from "./frame.ts"

export interface Activation {
  readonly epoch: number // of the group; a receiver drops a lower one
  readonly pass: number // counts up within an epoch; a repeated pass keeps its number, so a double is harmless
  readonly attempt: number // of the pass, so that blocks of an abandoned attempt are not mixed into the next
  readonly step: number // which exchange of the pass
  readonly rank: number // the sender
  readonly blocks: number // consecutive arrays of tokens x width: one a layer, or 1 for a hidden state
  readonly tokens: number
  readonly width: number // values a token
  readonly messages: number // sent so far on the way to this one, itself included: how a pass learns its own cost
  readonly bytes: number // payload bytes likewise
  readonly nodes: Uint8Array // the frontier of a draft step, packed by frontier.ts; empty elsewhere
  readonly values: Uint8Array // f32, a view: unaligned as NATS delivers it, so the engine reads it as bytes
}

export const HEADER_BYTES = 48

export const encode = (activation: Activation): Uint8Array => {
  const { nodes, values } = activation
  const message = new Uint8Array(HEADER_BYTES + nodes.byteLength + values.byteLength)
  const view = new DataView(message.buffer)
  view.setUint16(0, MARKS.activation, true)
  view.setUint16(2, activation.step, true)
  view.setUint16(4, activation.rank, true)
  view.setUint16(6, activation.attempt, true)
  view.setUint32(8, activation.epoch, true)
  view.setUint32(12, activation.pass, true)
  view.setUint32(16, activation.blocks, true)
  view.setUint32(20, activation.tokens, true)
  view.setUint32(24, activation.width, true)
  view.setUint32(28, nodes.byteLength, true)
  view.setUint32(32, activation.messages, true)
  view.setFloat64(36, activation.bytes, true)
  message.set(nodes, HEADER_BYTES)
  message.set(values, HEADER_BYTES + nodes.byteLength)
  return message
}

export const decode = (message: Uint8Array): Result.Result<Activation, MalformedMessage> => {
  if (message.byteLength < HEADER_BYTES) return malformed("header", `${HEADER_BYTES} bytes`, message.byteLength)
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  const mark = view.getUint16(0, true)
  if (mark !== MARKS.activation) return malformed("mark", `${MARKS.activation}`, mark)
  const blocks = view.getUint32(16, true)
  const tokens = view.getUint32(20, true)
  const width = view.getUint32(24, true)
  const nodesBytes = view.getUint32(28, true)
  const expected = HEADER_BYTES + nodesBytes + blocks * tokens * width * Float32Array.BYTES_PER_ELEMENT
  if (message.byteLength !== expected) return malformed("values", `${expected} bytes in all`, message.byteLength)
  return Result.succeed({
    epoch: view.getUint32(8, true),
    pass: view.getUint32(12, true),
    attempt: view.getUint16(6, true),
    step: view.getUint16(2, true),
    rank: view.getUint16(4, true),
    blocks,
    tokens,
    width,
    messages: view.getUint32(32, true),
    bytes: view.getFloat64(36, true),
    nodes: message.subarray(HEADER_BYTES, HEADER_BYTES + nodesBytes),
    values: message.subarray(HEADER_BYTES + nodesBytes),
  })
}

const malformed = (field: string, expected: string, actual: number) =>
  Result.fail(new MalformedMessage({ kind: "activation", field, reason: `expected ${expected}, got ${actual}` }))

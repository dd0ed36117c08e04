// Committed KV on its way from a rank to its group's standby: what the last pass has added, after the pass was answered. No
// message while no standby asks for it. One that is lost shows as a gap in the next one, and is asked for again. And on its
// way to the same rank of another group, to which its session moves: piece by piece, each asked for.
import { Result, Schema } from "effect"
import { codec } from "./codec.ts"
import { MalformedMessage } from "./errors.ts"
import { bytesOf, copyBlocks, MARKS } from "./frame.ts"
import { decode as decodePart, isPart, partsOf, split } from "./part.ts"
import { Sampling } from "./pass.ts"
import { Count } from "./scalar.ts"

/** Rows [from, from + count) of one session on one rank. What was sent from `from` on before is of no account any more. */
export interface KvDelta {
  readonly _tag: "KvDelta"
  readonly session: string
  readonly epoch: number
  readonly group: string
  readonly rank: number
  readonly from: number
  readonly count: number
  readonly sampling: Sampling | null // with which the session is opened: told with its first rows
  readonly values: Uint8Array // as the engine exports them: tokens, then keys and values of the rank's layers
}

/** In place of a piece: the rank does not hold it, or is of another shape. */
export interface KvLacking {
  readonly _tag: "KvLacking"
  readonly session: string
  readonly epoch: number
  readonly rank: number
  readonly from: number // of the piece
  readonly count: number
}

export type KvMessage = KvDelta | KvLacking

/** Bytes of KV in one message: a rank that is behind catches up in several, and no connection is filled up. */
const PIECE_BYTES = 4 * 2 ** 20

export const rowsOfPiece = (bytesOfRow: number): number =>
  Math.max(1, Math.floor(PIECE_BYTES / Math.max(1, bytesOfRow)))

export const WISH_MILLIS = 1_000

/**
 * To one rank of a group: rows [from, to) of a session shall go to the same rank of the group that asks, under this number:
 * several groups may send to it at once.
 */
const Send = Schema.TaggedStruct("Send", {
  number: Count,
  session: Schema.NonEmptyString,
  rank: Count,
  from: Count,
  to: Count,
  shard: Schema.String, // of the one that asks
  sampling: Sampling,
  target: Schema.Struct({ epoch: Count, group: Schema.NonEmptyString }),
})
export type Send = typeof Send.Type

/** A standby says once a second that it listens, and at once what it lacks. */
const KvWish = Schema.Union([
  Schema.TaggedStruct("Listening", {}),
  Schema.TaggedStruct("Missing", { session: Schema.NonEmptyString, rank: Count, from: Count }),
  Send,
]).pipe(Schema.toTaggedUnion("_tag"))
export type KvWish = typeof KvWish.Type

export const wishes = codec("KV wish", KvWish)

const samplings = codec("sampling of a KV delta", Sampling)

/** Then the names of session and group, the sampling, and the values: each may be empty but the first. */
const HEADER_BYTES = 28
const DELTA = 1
const LACKING = 2

const NONE = new Uint8Array(0)

/** A frame in two blocks: all before the values, and the values where they lie. */
const frameOf = (kv: KvMessage): readonly [head: Uint8Array, values: Uint8Array] => {
  const { from, count } = kv
  const { group, sampling, values } = kv._tag === "KvDelta" ? kv : NO_ROWS
  const names = [kv.session, group].map((name) => Buffer.from(name))
  const [session = NONE, owner = NONE] = names
  const told = from > 0 || sampling === null ? NONE : samplings.encode(sampling)
  const head = new Uint8Array(HEADER_BYTES + session.byteLength + owner.byteLength + told.byteLength)
  const view = new DataView(head.buffer)
  view.setUint16(0, MARKS.kv, true)
  view.setUint16(2, kv._tag === "KvDelta" ? DELTA : LACKING, true)
  view.setUint16(4, kv.rank, true)
  view.setUint16(6, owner.byteLength, true)
  view.setUint32(8, kv.epoch, true)
  view.setUint32(12, from, true)
  view.setUint32(16, count, true)
  view.setUint32(20, session.byteLength, true)
  view.setUint32(24, told.byteLength, true)
  head.set(session, HEADER_BYTES)
  head.set(owner, HEADER_BYTES + session.byteLength)
  head.set(told, HEADER_BYTES + session.byteLength + owner.byteLength)
  return [head, values]
}

const NO_ROWS = { group: "", sampling: null, values: NONE }

/** The messages that a delta takes, whose number they have in common: one, or parts that the server takes. The values are copied once. */
export const encode = (kv: KvMessage, number: number, maxPayload: number): ReadonlyArray<Uint8Array> => {
  const frame = frameOf(kv)
  const bytes = bytesOf(frame)
  const { epoch, rank } = kv
  if (partsOf(bytes, maxPayload) > 1) {
    return split({ epoch, rank, pass: number, attempt: 0, step: 0 }, frame, maxPayload)
  }
  const message = new Uint8Array(bytes)
  copyBlocks(frame, { from: 0, to: bytes }, message, 0)
  return [message]
}

/** The values are a view of the message. */
const decode = (message: Uint8Array): Result.Result<KvMessage, MalformedMessage> => {
  if (message.byteLength < HEADER_BYTES) return malformed("header", `${HEADER_BYTES} bytes`, message.byteLength)
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  const mark = view.getUint16(0, true)
  if (mark !== MARKS.kv) return malformed("mark", `${MARKS.kv}`, mark)
  const kind = view.getUint16(2, true)
  if (kind !== DELTA && kind !== LACKING) return malformed("kind", `${DELTA} or ${LACKING}`, kind)
  const group = HEADER_BYTES + view.getUint32(20, true)
  const sampling = group + view.getUint16(6, true)
  const values = sampling + view.getUint32(24, true)
  if (group === HEADER_BYTES) return malformed("session", "a name", 0)
  if (values > message.byteLength) return malformed("values", `to begin at byte ${values}`, message.byteLength)
  const text = (from: number, to: number) => new TextDecoder().decode(message.subarray(from, to))
  const of = {
    ...{ session: text(HEADER_BYTES, group), epoch: view.getUint32(8, true), rank: view.getUint16(4, true) },
    ...{ from: view.getUint32(12, true), count: view.getUint32(16, true) },
  }
  if (kind === LACKING) return Result.succeed({ _tag: "KvLacking", ...of })
  const told = values > sampling ? samplings.decode(message.subarray(sampling, values)) : Result.succeed(null)
  return Result.map(told, (told) => ({
    _tag: "KvDelta",
    ...of,
    group: text(group, sampling),
    sampling: told,
    values: message.subarray(values),
  }))
}

const malformed = (field: string, expected: string, actual: number) =>
  Result.fail(new MalformedMessage({ kind: "KV message", field, reason: `expected ${expected}, got ${actual}` }))

/** The number of a message that is a part. */
export const numberOf = (message: Uint8Array): number | null => {
  const part = isPart(message) ? decodePart(message) : null
  return part !== null && Result.isSuccess(part) ? part.success.pass : null
}

/** More than any piece has, and nothing that is set aside for what a header alone says. */
const MOST_BYTES = 2 ** 28

/** Puts the deltas of one rank together again. Parts come in order or, where one was lost, not at all. */
export class Assembly {
  #number = -1
  #next = 0 // index of the part that is to come
  #whole = NONE // its parts have one size, but for the last

  /** The delta that is whole with this message, or null. Its values are a view of a message, or the delta's own. */
  deliver(message: Uint8Array): Result.Result<KvMessage | null, MalformedMessage> {
    if (!isPart(message)) return decode(message)
    const decoded = decodePart(message)
    if (Result.isFailure(decoded)) return Result.fail(decoded.failure)
    const { pass, index, count, piece } = decoded.success
    if (index === 0) {
      const bytes = count * piece.byteLength
      if (bytes > MOST_BYTES) return malformed("count", `${MOST_BYTES} bytes in all at most`, bytes)
      this.#number = pass
      this.#next = 0
      this.#whole = new Uint8Array(bytes)
    }
    if (pass !== this.#number || index !== this.#next) return Result.succeed(null)
    const at = index * Math.floor(this.#whole.byteLength / count)
    if (at + piece.byteLength > this.#whole.byteLength) return malformed("piece", "one size", piece.byteLength)
    this.#whole.set(piece, at)
    this.#next++
    if (this.#next < count) return Result.succeed(null)
    const whole = this.#whole.subarray(0, at + piece.byteLength)
    this.#number = -1
    this.#whole = NONE
    return decode(whole)
  }
}

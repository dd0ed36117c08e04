// Committed KV on its way from a rank to its group's standby: what the last pass has added, after the pass was answered. No
// message while no standby asks for it. One that is lost shows as a gap in the next one, and is asked for again. And on its
// way to the same rank of another group, to which its session moves: piece by piece, each asked for.
import { Result, Schema } from "effect"
import { codec } from "./codec.ts"
import type { MalformedMessage } from "./errors.ts"
import { decode as decodePart, isPart, partsOf, split } from "./part.ts"
import { Sampling } from "./pass.ts"
import { Count } from "./scalar.ts"

/** Rows [from, from + count) of one session on one rank. What was sent from `from` on before is of no account any more. */
export const KvDelta = Schema.TaggedStruct("KvDelta", {
  session: Schema.NonEmptyString,
  epoch: Count,
  group: Schema.String,
  rank: Count,
  from: Count,
  count: Count,
  sampling: Sampling, // with which the session is opened
  values: Schema.Uint8Array, // as the engine exports them: tokens, then keys and values of the rank's layers
})
export type KvDelta = typeof KvDelta.Type

/** In place of a piece: the rank does not hold it, or is of another shape. */
export const KvLacking = Schema.TaggedStruct("KvLacking", { session: Schema.NonEmptyString, epoch: Count, rank: Count })

const KvMessage = Schema.Union([KvDelta, KvLacking]).pipe(Schema.toTaggedUnion("_tag"))
export type KvMessage = typeof KvMessage.Type

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
export const KvWish = Schema.Union([
  Schema.TaggedStruct("Listening", {}),
  Schema.TaggedStruct("Missing", { session: Schema.NonEmptyString, rank: Count, from: Count }),
  Send,
]).pipe(Schema.toTaggedUnion("_tag"))
export type KvWish = typeof KvWish.Type

const messages = codec("KV message", KvMessage)

/** The messages that a delta takes, whose number they have in common: one, or parts that the server takes. */
export const encode = (kv: KvMessage, number: number, maxPayload: number): ReadonlyArray<Uint8Array> => {
  const message = messages.encode(kv)
  if (partsOf(message.byteLength, maxPayload) === 1) return [message]
  const { epoch, rank } = kv
  return split({ epoch, rank, pass: number, attempt: 0, step: 0 }, message, maxPayload)
}

/** The number of a message that is a part. */
export const numberOf = (message: Uint8Array): number | null => {
  const part = isPart(message) ? decodePart(message) : null
  return part !== null && Result.isSuccess(part) ? part.success.pass : null
}

/** Puts the deltas of one rank together again. Parts come in order or, where one was lost, not at all. */
export class Assembly {
  #number = -1
  #pieces: Array<Uint8Array> = []

  /** The delta that is whole with this message, or null. */
  deliver(message: Uint8Array): Result.Result<KvMessage | null, MalformedMessage> {
    if (!isPart(message)) return messages.decode(message)
    const decoded = decodePart(message)
    if (Result.isFailure(decoded)) return Result.fail(decoded.failure)
    const { pass, index, count, piece } = decoded.success
    if (index === 0) [this.#number, this.#pieces] = [pass, []]
    if (pass !== this.#number || index !== this.#pieces.length) return Result.succeed(null)
    this.#pieces.push(piece)
    if (this.#pieces.length < count) return Result.succeed(null)
    const whole = Buffer.concat(this.#pieces)
    this.#pieces = []
    return messages.decode(whole)
  }
}

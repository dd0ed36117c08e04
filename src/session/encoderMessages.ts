// What the supervisor and its encoder's process say to each other.
import { Schema } from "effect"
import { Encodable, EncodeError } from "../model/encoding.ts"

/** With nothing to encode, the model is made ready. */
export const EncodeRequest = Schema.Struct({ path: Schema.String, encode: Schema.NullOr(Encodable) })
export type EncodeRequest = typeof EncodeRequest.Type

const Tokens = Schema.declare((value): value is Int32Array => value instanceof Int32Array)

export const EncodeAnswer = Schema.Union([
  Schema.TaggedStruct("Encoded", { tokens: Tokens }),
  Schema.TaggedStruct("Refused", { error: EncodeError }),
])
export type EncodeAnswer = typeof EncodeAnswer.Type

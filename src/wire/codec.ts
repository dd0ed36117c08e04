// msgpack of the wire's messages, checked by their schemas at the edge. Schemas are used as they are: bytes stay binary.
import { Result, Schema } from "effect"
import { Packr } from "msgpackr"
import { MalformedMessage } from "./errors.ts"
import { flawOf } from "./msgpack.ts"

// Other languages write an integer as wide as they like, so one that a number holds becomes one; the types do not know "auto".
const packr = Object.assign(new Packr({ useRecords: false, mapsAsObjects: true }), { int64AsType: "auto" })

/** A message of a stranger is told all that is wrong with it up to this size, and the first thing beyond. */
const WHOLE_ERROR_BYTES = 4096
const LONGEST_REASON = 500

export interface CodecOptions {
  readonly mostBytes?: number // that `decode` looks into; for what strangers may send
}

/** A schema whose encoded form msgpack can carry, and its encoder and decoder. `kind` names it in errors. */
export const codec = <S extends Schema.Codec<unknown, unknown>>(
  kind: string,
  schema: S,
  { mostBytes = Number.POSITIVE_INFINITY }: CodecOptions = {},
) => {
  const encode = Schema.encodeUnknownSync(schema)
  const encodeResult = Schema.encodeUnknownResult(schema, { errors: "all" })
  const malformed = ({ message }: { readonly message: string }) =>
    new MalformedMessage({ kind, field: fieldOf(message.slice(0, 4 * LONGEST_REASON)), reason: reasonOf(message) })
  const flawed = (reason: string) => Result.fail(new MalformedMessage({ kind, field: "message", reason }))
  const decodeAll = Schema.decodeUnknownResult(schema, { errors: "all", onExcessProperty: "error" })
  const decodeFirst = Schema.decodeUnknownResult(schema, { errors: "first", onExcessProperty: "error" })
  return {
    /** Throws where the value is not one of the schema's: for values of our own making. */
    encode: (value: S["Type"]): Uint8Array => packr.pack(encode(value)),
    /** Likewise; where that is more than a message may have, what is said instead, which is told the bytes. */
    encodeWithin: (limit: number, value: S["Type"], instead: (bytes: number) => S["Type"]): Uint8Array => {
      const bytes = packr.pack(encode(value))
      return bytes.byteLength <= limit ? bytes : packr.pack(encode(instead(bytes.byteLength)))
    },
    /** For values that a user made. */
    tryEncode: (value: S["Type"]): Result.Result<Uint8Array, MalformedMessage> =>
      Result.map(Result.mapError(encodeResult(value), malformed), (encoded) => packr.pack(encoded)),
    decode: (message: Uint8Array): Result.Result<S["Type"], MalformedMessage> => {
      const { byteLength } = message
      if (byteLength > mostBytes) return flawed(`has ${byteLength} bytes, at most ${mostBytes} are read`)
      const flaw = flawOf(message)
      if (flaw !== null) return flawed(`not msgpack: ${flaw}`)
      let value: unknown
      try {
        value = packr.unpack(message)
      } catch (error) {
        return flawed(`not msgpack: ${error instanceof Error ? error.message : error}`)
      }
      const decode = byteLength > WHOLE_ERROR_BYTES ? decodeFirst : decodeAll
      return Result.mapError(decode(value), malformed)
    },
  }
}

const reasonOf = (message: string): string => {
  const line = message.slice(0, 2 * LONGEST_REASON).replaceAll(/\s*\n\s*/g, " ")
  return line.length > LONGEST_REASON ? `${line.slice(0, LONGEST_REASON)} ...` : line
}

/** The first path that a schema's message names: `at ["parents"][3]` gives parents[3]. */
const fieldOf = (message: string): string => {
  const path = /at ((?:\[[^\]]*\])+)/.exec(message)?.[1]
  return path === undefined ? "message" : path.replaceAll(/\["([^"]*)"\]/g, ".$1").replace(/^\./, "")
}

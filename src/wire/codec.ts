// msgpack of the wire's messages, checked by their schemas at the edge. Schemas are used as they are: bytes stay binary.
import { Result, Schema } from "effect"
import { Packr } from "msgpackr"
import { MalformedMessage } from "./errors.ts"

const packr = new Packr({ useRecords: false, int64AsType: "bigint", mapsAsObjects: true })

/** A schema whose encoded form msgpack can carry, and its encoder and decoder. `kind` names it in errors. */
export const codec = <S extends Schema.Codec<unknown, unknown>>(kind: string, schema: S) => {
  const encode = Schema.encodeUnknownSync(schema)
  const encodeResult = Schema.encodeUnknownResult(schema, { errors: "all" })
  const malformed = ({ message }: { readonly message: string }) =>
    new MalformedMessage({ kind, field: fieldOf(message), reason: message.replaceAll(/\s*\n\s*/g, " ") })
  const decode = Schema.decodeUnknownResult(schema, { errors: "all", onExcessProperty: "error" })
  return {
    /** Throws where the value is not one of the schema's: for values of our own making. */
    encode: (value: S["Type"]): Uint8Array => packr.pack(encode(value)),
    /** For values that a user made. */
    tryEncode: (value: S["Type"]): Result.Result<Uint8Array, MalformedMessage> =>
      Result.map(Result.mapError(encodeResult(value), malformed), (encoded) => packr.pack(encoded)),
    decode: (message: Uint8Array): Result.Result<S["Type"], MalformedMessage> => {
      let value: unknown
      try {
        value = packr.unpack(message)
      } catch (error) {
        return Result.fail(
          new MalformedMessage({
            kind,
            field: "message",
            reason: `not msgpack: ${error instanceof Error ? error.message : error}`,
          }),
        )
      }
      return Result.mapError(decode(value), malformed)
    },
  }
}

/** The first path that a schema's message names: `at ["parents"][3]` gives parents[3]. */
const fieldOf = (message: string): string => {
  const path = /at ((?:\[[^\]]*\])+)/.exec(message)?.[1]
  return path === undefined ? "message" : path.replaceAll(/\["([^"]*)"\]/g, ".$1").replace(/^\./, "")
}

// A message's schema as a JSON document, for clients that ask a service what it takes. What msgpack carries is closer to its
// types than JSON is: an integer of 64 bits is an integer there, and no string.
import { Schema } from "effect"

const STRING_OF_BIGINT = JSON.stringify({ type: "string", pattern: "^-?\\d+$" })
const INTEGER_OF_64_BITS = { type: "integer", minimum: 0, maximum: 2 ** 64 }

export const documentOf = (schema: Schema.Codec<unknown, unknown>): string => {
  const { schema: root, definitions } = Schema.toJsonSchemaDocument(schema, { onExcessProperty: "error" })
  const document = { $schema: "https://json-schema.org/draft/2020-12/schema", ...root, $defs: definitions }
  return JSON.stringify(document, (_, value: unknown) =>
    JSON.stringify(value) === STRING_OF_BIGINT ? INTEGER_OF_64_BITS : value,
  )
}

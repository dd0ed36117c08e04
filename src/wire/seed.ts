// A seed has 64 bits, and msgpack writes an integer in as few bytes as it needs: other languages' libraries choose the
// width by the value, so any integer is taken in. Ours always writes 64 bits.
import { Schema, SchemaGetter } from "effect"

const Bits64 = Schema.BigInt.pipe(Schema.check(Schema.isBetweenBigInt({ minimum: 0n, maximum: 2n ** 64n - 1n })))

/** Up to the one that msgpackr still gives as a number, which is no safe integer any more: 2^53. */
const Numeric = Schema.Finite.pipe(
  Schema.check(Schema.isMultipleOf(1), Schema.isBetween({ minimum: 0, maximum: 2 ** 53 })),
)

export const Seed = Schema.Union([Numeric, Schema.BigInt]).pipe(
  Schema.decodeTo(Bits64, {
    decode: SchemaGetter.transform((integer) => BigInt(integer)),
    encode: SchemaGetter.transform((seed) => seed),
  }),
)

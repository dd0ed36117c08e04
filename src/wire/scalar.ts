// The numbers of which messages, records and settings are made.
import { Schema } from "effect"

const atLeast = (minimum: number) => Schema.Int.pipe(Schema.check(Schema.isGreaterThanOrEqualTo(minimum)))

/** A whole number from 0 up. */
export const Count = atLeast(0)

/** A whole number from 1 up. */
export const Positive = atLeast(1)

/** A count as an environment variable spells it. */
export const CountFromString = Schema.NumberFromString.pipe(
  Schema.check(Schema.isInt(), Schema.isGreaterThanOrEqualTo(0)),
)

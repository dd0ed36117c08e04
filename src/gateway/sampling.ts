// The fields that chat and completions share: what is supported, what is let pass because it changes nothing here, and what
// is refused unless it says what is done anyway. null is as good as leaving out, as with OpenAI.
import { Schema } from "effect"
import type { InferRequest } from "../client/index.ts"

export const optional = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const between = (minimum: number, maximum: number) =>
  Schema.Finite.pipe(Schema.check(Schema.isBetween({ minimum, maximum })))
export const int = (minimum: number, maximum: number) =>
  Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum, maximum })))

/** A field of OpenAI's that is not supported, but for the value that means nothing. */
export const only = <const Value extends null | number | boolean>(value: Value) =>
  optional(
    (value === null ? Schema.Null : Schema.Literals([value])).annotate({
      message: `is not supported here: leave it out, or give ${JSON.stringify(value)}`,
    }),
  )

/** Likewise, where the value is an empty list or object. */
export const empty = optional(
  Schema.Union([
    Schema.Array(Schema.Unknown).pipe(Schema.check(Schema.isMaxLength(0))),
    Schema.Record(Schema.String, Schema.Never),
  ]).annotate({ message: "is not supported here: leave it out" }),
)

const MOST_TOKENS = 2 ** 31 - 1
const MOST_CHOICES = 16
const MOST_STOPS = 16
const MOST_NAME = 256 // characters, on the wire

export const MAX_ALTERNATIVES = 20

const Stop = Schema.NonEmptyString.pipe(Schema.check(Schema.isMaxLength(1_000)))

export const fields = {
  model: Schema.NonEmptyString.pipe(Schema.check(Schema.isMaxLength(256))),
  stream: optional(Schema.Boolean),
  stream_options: optional(
    Schema.Struct({ include_usage: optional(Schema.Boolean), include_obfuscation: optional(Schema.Boolean) }),
  ),
  max_tokens: optional(int(1, MOST_TOKENS)),
  temperature: optional(between(0, 2)),
  top_p: optional(between(0, 1)),
  n: optional(int(1, MOST_CHOICES)),
  stop: optional(Schema.Union([Stop, Schema.Array(Stop).pipe(Schema.check(Schema.isMaxLength(MOST_STOPS)))])),
  // JSON's numbers keep 53 bits of an integer.
  seed: optional(int(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)),
  // Not OpenAI's, but those of other servers that speak its language.
  top_k: optional(int(0, MOST_TOKENS)),
  min_p: optional(between(0, 1)),
  repetition_penalty: optional(between(0.01, 100)),
  // Of no consequence for what is generated.
  user: optional(Schema.String),
  metadata: optional(Schema.Unknown),
  // Not supported.
  frequency_penalty: only(0),
  presence_penalty: only(0),
  logit_bias: empty,
} as const

const Fields = Schema.Struct(fields)
type Fields = typeof Fields.Type

/** Where nothing is said: OpenAI's defaults, and otherwise the deployment's. */
const TEMPERATURE = 1

/** What goes on to a supervisor. */
export const requestOf = (asked: Fields, client: string): InferRequest => {
  const { stop, seed } = asked
  return {
    client: client.slice(0, MOST_NAME),
    temperature: asked.temperature ?? TEMPERATURE,
    ...(asked.max_tokens == null ? {} : { maxTokens: asked.max_tokens }),
    ...(asked.top_p == null ? {} : { topP: asked.top_p }),
    ...(asked.top_k == null ? {} : { topK: asked.top_k }),
    ...(asked.min_p == null ? {} : { minP: asked.min_p }),
    ...(asked.repetition_penalty == null ? {} : { repetitionPenalty: asked.repetition_penalty }),
    ...(stop == null ? {} : { stop: typeof stop === "string" ? [stop] : stop }),
    ...(seed == null ? {} : { seed: BigInt.asUintN(64, BigInt(seed)) }),
  }
}

const GOLDEN = 0x9e3779b97f4a7c15n // of 64 bits, so that seeds lie far apart

/** The requests of n choices: the first has the seed itself, the others seeds that follow from it. */
export const choicesOf = (request: InferRequest, n: number): ReadonlyArray<InferRequest> =>
  Array.from({ length: n }, (_, choice) =>
    request.seed === undefined
      ? request
      : { ...request, seed: BigInt.asUintN(64, request.seed + BigInt(choice) * GOLDEN) },
  )

// What a client says and hears: a request, its immediate answer, and the entries of the token log.
import { Schema } from "effect"
import { InferError } from "./errors.ts"

const Count = Schema.Int.pipe(Schema.check(Schema.isGreaterThanOrEqualTo(0)))
const Positive = Schema.Int.pipe(Schema.check(Schema.isGreaterThanOrEqualTo(1)))

const ChatMessage = Schema.Struct({ role: Schema.String, content: Schema.String })

/** Exactly one of prompt, tokens and messages. What is left out has the deployment's default. */
export const InferRequest = Schema.Struct({
  prompt: Schema.optionalKey(Schema.String),
  tokens: Schema.optionalKey(Schema.Array(Count)),
  messages: Schema.optionalKey(Schema.Array(ChatMessage)),
  maxTokens: Schema.optionalKey(Positive), // 256
  temperature: Schema.optionalKey(Schema.Finite), // 0
  topK: Schema.optionalKey(Count),
  topP: Schema.optionalKey(Schema.Finite),
  minP: Schema.optionalKey(Schema.Finite),
  repetitionPenalty: Schema.optionalKey(Schema.Finite),
  seed: Schema.optionalKey(
    Schema.BigInt.pipe(Schema.check(Schema.isBetweenBigInt({ minimum: 0n, maximum: 2n ** 64n - 1n }))),
  ), // random where it is left out; the answer tells it
  stop: Schema.optionalKey(Schema.Array(Schema.NonEmptyString)),
  speculation: Schema.optionalKey(
    Schema.Union([
      Schema.Literals(["adaptive", "none"]),
      Schema.Struct({ depth: Positive, width: Positive, nodes: Positive }), // a fixed tree
    ]),
  ),
  fuzzy: Schema.optionalKey(Positive), // N of this session's fuzzy passes
  client: Schema.optionalKey(Schema.NonEmptyString.pipe(Schema.check(Schema.isMaxLength(256)))), // who asks, for limits of each client
})
export type InferRequest = typeof InferRequest.Type

const InferAccepted = Schema.TaggedStruct("Accepted", {
  session: Schema.String,
  subject: Schema.String, // of the token log
  promptTokens: Count,
  seed: Schema.BigInt,
})
const InferRefused = Schema.TaggedStruct("Refused", { error: InferError })
export const InferAnswer = Schema.Union([InferAccepted, InferRefused]).pipe(Schema.toTaggedUnion("_tag"))
export type InferAnswer = typeof InferAnswer.Type

/** drafted: proposed by the draft and accepted; corrected: the base's own token where a draft ended; plain: decoded alone. */
export const TokenOrigin = Schema.Literals(["drafted", "corrected", "plain"])
export type TokenOrigin = typeof TokenOrigin.Type

export const LoggedToken = Schema.Struct({
  id: Count,
  text: Schema.String, // what became whole with this token; may be empty in the middle of a character
  origin: TokenOrigin,
})

export type LoggedToken = typeof LoggedToken.Type

export const FinishReason = Schema.Literals(["stop", "length", "cancelled", "failed"])
export type FinishReason = typeof FinishReason.Type

/** The passes of one kind in a generation. */
export const PassStats = Schema.Struct({
  count: Count,
  millis: Schema.Finite,
  computeMillis: Schema.Finite,
  hops: Count,
  messages: Count,
  bytes: Count,
})
export type PassStats = typeof PassStats.Type

export const GenerationStats = Schema.Struct({
  promptTokens: Count,
  reusedTokens: Count, // of the prompt, whose KV an earlier session had left
  tokens: Count,
  millis: Schema.Finite, // from the acceptance of the request to the last token
  firstTokenMillis: Schema.Finite,
  tokensPerSecond: Schema.Finite, // of decoding: after the prefill
  iterations: Count,
  meanAcceptedLength: Schema.Finite, // drafted tokens accepted an iteration that drafted; the bonus token not counted
  passes: Schema.Record(Schema.String, PassStats), // prefill, calibrate, draft, verify, decode
})
export type GenerationStats = typeof GenerationStats.Type

/** One entry of a session's token log: an iteration's tokens, or the end. `at` is the position of the first among the answer's tokens. */
export const LogEntry = Schema.Union([
  Schema.TaggedStruct("Tokens", { epoch: Count, at: Count, tokens: Schema.Array(LoggedToken) }),
  Schema.TaggedStruct("End", {
    epoch: Count,
    at: Count, // tokens in all
    text: Schema.String, // what was held back: the rest of an unfinished character
    finishReason: FinishReason,
    error: Schema.String, // empty unless it failed
    stats: GenerationStats,
  }),
]).pipe(Schema.toTaggedUnion("_tag"))
export type LogEntry = typeof LogEntry.Type

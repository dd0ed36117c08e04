// What a client says and hears: a request, its immediate answer, and the entries of the token log.
import { Schema } from "effect"
import { InferError } from "./errors.ts"
import { Count, Positive } from "./scalar.ts"
import { Seed } from "./seed.ts"

const Name = Schema.NonEmptyString.pipe(Schema.check(Schema.isMaxLength(256)))
/** Below a tenth of a second, a message that is late for once would end a session. */
const Millis = Schema.Int.pipe(Schema.check(Schema.isGreaterThanOrEqualTo(100)))

const ChatMessage = Schema.Struct({ role: Schema.String, content: Schema.String })

/** Exactly one of prompt, tokens and messages. What is left out has the deployment's default. */
export const InferRequest = Schema.Struct({
  prompt: Schema.optionalKey(Schema.String),
  tokens: Schema.optionalKey(Schema.Array(Count)),
  messages: Schema.optionalKey(Schema.Array(ChatMessage)),
  templateArguments: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json)), // what a chat's template is told beside the messages
  addSpecialTokens: Schema.optionalKey(Schema.Boolean), // what the model's files put around a text, such as bos; true for a prompt, false for messages
  maxTokens: Schema.optionalKey(Count), // of the answer: it has to fit; all that the context leaves
  mostTokens: Schema.optionalKey(Count), // likewise, and less where the context leaves less
  temperature: Schema.optionalKey(Schema.Finite), // the model's; where it has none, fallbackTemperature, and else 0
  fallbackTemperature: Schema.optionalKey(Schema.Finite),
  topK: Schema.optionalKey(Count), // this one and the next three: the model's, and else off
  topP: Schema.optionalKey(Schema.Finite),
  minP: Schema.optionalKey(Schema.Finite),
  repetitionPenalty: Schema.optionalKey(Schema.Finite), // of what prompt and answer have
  presencePenalty: Schema.optionalKey(Schema.Finite), // of what the answer has
  frequencyPenalty: Schema.optionalKey(Schema.Finite), // likewise, for each time
  logitBias: Schema.optionalKey(Schema.Record(Schema.String, Schema.Finite)), // by a token's number: what is added to its logit; -100 is a ban
  minTokens: Schema.optionalKey(Count), // before which the answer does not end by itself; 0
  ignoreEos: Schema.optionalKey(Schema.Boolean), // the model's ends are tokens like others; false
  seed: Schema.optionalKey(Seed), // random where it is left out; the answer tells it
  stop: Schema.optionalKey(Schema.Array(Schema.NonEmptyString)),
  speculation: Schema.optionalKey(
    Schema.Union([
      Schema.Literals(["adaptive", "none"]),
      Schema.Struct({ depth: Positive, width: Positive, nodes: Positive }), // a fixed tree
    ]),
  ),
  fuzzy: Schema.optionalKey(Positive), // N of this session's fuzzy passes
  stream: Schema.optionalKey(Schema.Boolean), // false: the reply is the whole answer; true: the session, at once
  client: Schema.optionalKey(Name), // the asker, for limits of each client
  deadlineMillis: Schema.optionalKey(Positive), // from acceptance; then the session ends with what it has
  interestMillis: Schema.optionalKey(Millis), // the session is cancelled when no reader has spoken up for this long
  logprobs: Schema.optionalKey(Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 0, maximum: 20 })))), // alternatives logged with each token; left out: not even the token's own
  promptLogprobs: Schema.optionalKey(Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 0, maximum: 20 })))), // likewise, with each token of the prompt but the first
  trace: Schema.optionalKey(Schema.Boolean), // whether each drafting iteration is told on the trace subject; false
})
export type InferRequest = typeof InferRequest.Type

/** drafted: proposed by the draft and accepted; corrected: the base's own token where a draft ended; plain: decoded alone. */
export const TokenOrigin = Schema.Literals(["drafted", "corrected", "plain"])
export type TokenOrigin = typeof TokenOrigin.Type

/** A token that might have been chosen. Its text is its own, not what it would make of a character begun before. */
const Alternative = Schema.Struct({ id: Count, logProb: Schema.Finite, text: Schema.String, bytes: Schema.Uint8Array })

/** Log-probabilities are those of softmax(logits): the model's own, whatever the sampler makes of them. */
const logProbs = {
  logProb: Schema.Finite,
  top: Schema.Array(Alternative), // as many as were asked for, the most probable first
}
/** What a token is, beside what becomes of the text. */
const own = {
  bytes: Schema.Uint8Array, // may be a part of a character
  control: Schema.optionalKey(Schema.Literal(true)), // its bytes are its name, and no part of the text
}
const TokenLogProbs = Schema.Struct({ ...own, ...logProbs })
export type TokenLogProbs = typeof TokenLogProbs.Type

/** The token that ended a generation, which is none of the answer's. */
const EndToken = Schema.Struct({ id: Count, ...own, ...logProbs })
export type EndToken = typeof EndToken.Type

/** Of a prompt, where its log-probabilities were asked for. Nothing comes before the first, so it has none. */
const PromptToken = Schema.Struct({
  id: Count,
  ...own,
  logProb: Schema.optionalKey(logProbs.logProb),
  top: Schema.optionalKey(logProbs.top),
})
export type PromptToken = typeof PromptToken.Type

export const LoggedToken = Schema.Struct({
  id: Count,
  text: Schema.String, // what became whole with this token; may be empty in the middle of a character
  origin: TokenOrigin,
  // Only where logprobs were asked for:
  bytes: Schema.optionalKey(own.bytes),
  control: own.control,
  logProb: Schema.optionalKey(logProbs.logProb),
  top: Schema.optionalKey(logProbs.top),
})
export type LoggedToken = typeof LoggedToken.Type

/** One where they were asked for, none otherwise. */
export const logProbsOf = ({ bytes, control, logProb, top }: LoggedToken): ReadonlyArray<TokenLogProbs> =>
  bytes === undefined || logProb === undefined || top === undefined
    ? []
    : [{ bytes, ...(control === undefined ? {} : { control }), logProb, top }]

/** deadline: the time of the request was over; the answer is what there was by then. */
export const FinishReason = Schema.Literals(["stop", "length", "deadline", "cancelled", "failed"])
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

/** From the request to the first token where the ranks had to be started for it; the parts follow one another. */
export const ColdStart = Schema.Struct({
  placementMillis: Schema.Finite, // until hosts were told to start the ranks
  processStartMillis: Schema.Finite, // until every rank was heard
  modelLoadMillis: Schema.Finite, // until every rank was ready
  prefillMillis: Schema.Finite, // the prompt
  firstTokenMillis: Schema.Finite, // the first pass after it
})
export type ColdStart = typeof ColdStart.Type

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
  coldStart: Schema.optionalKey(ColdStart), // where it was one
})
export type GenerationStats = typeof GenerationStats.Type

/** While a session waits for ranks to start; on `progress.<session>`, not stored, and so only for current listeners. */
export const SessionProgress = Schema.TaggedStruct("Activating", {
  fraction: Schema.Finite, // 0 to 1
})
export type SessionProgress = typeof SessionProgress.Type

/** What a session samples with, of that which the model may have had a say in. */
export const SampledWith = Schema.Struct({
  temperature: Schema.Finite,
  topK: Count, // 0: off
  topP: Schema.Finite, // 1: off
  minP: Schema.Finite, // 0: off
  repetitionPenalty: Schema.Finite, // 1: off
})
export type SampledWith = typeof SampledWith.Type

/** The immediate answer to a request with `stream`. */
const InferAccepted = Schema.TaggedStruct("Accepted", {
  session: Schema.String,
  subject: Schema.String, // of the token log
  promptTokens: Count,
  seed: Seed,
  sampling: Schema.optionalKey(SampledWith),
})
const answer = {
  text: Schema.String,
  tokens: Schema.Array(Count),
  finishReason: FinishReason,
  error: Schema.String, // why it failed; empty otherwise
  stats: GenerationStats,
  logProbs: Schema.optionalKey(Schema.Array(TokenLogProbs)), // one a token, where they were asked for
  endToken: Schema.optionalKey(EndToken), // where they were, and a token ended it
  prompt: Schema.optionalKey(Schema.Array(PromptToken)), // where its log-probabilities were asked for
}
/** All that a session says, when it has ended. */
export const Answer = Schema.Struct(answer)
export type Answer = typeof Answer.Type

/** The answer to a request without `stream`. It is in the token log as well. */
const InferAnswered = Schema.TaggedStruct("Answered", {
  session: Schema.String,
  promptTokens: Count,
  seed: Seed,
  sampling: Schema.optionalKey(SampledWith),
  ...answer,
})
const InferRefused = Schema.TaggedStruct("Refused", { error: InferError })
export const InferAnswer = Schema.Union([InferAccepted, InferAnswered, InferRefused]).pipe(Schema.toTaggedUnion("_tag"))
export type InferAnswer = typeof InferAnswer.Type

/**
 * One entry of a session's token log: its beginning, written before the session is told to anyone, an iteration's tokens, a
 * loss of its ranks, or the end. `at` is the position of the first token among the answer's; `epoch` the number of the session's owner, 1 for who
 * has accepted it.
 */
export const LogEntry = Schema.Union([
  Schema.TaggedStruct("Begin", {
    epoch: Count,
    at: Count, // 0
    promptTokens: Count,
    seed: Seed,
    sampling: Schema.optionalKey(SampledWith),
    interestMillis: Schema.optionalKey(Millis), // as the request has it: how often readers have to say that they read
  }),
  /** Tokens of the prompt from position `from` on, where they were asked for: all of them before the first of the answer. */
  Schema.TaggedStruct("Prompt", { epoch: Count, at: Count, from: Count, tokens: Schema.Array(PromptToken) }),
  /** Another supervisor goes on from here: the owner before it cannot write any more. Means nothing to readers. */
  Schema.TaggedStruct("Owner", { epoch: Count, at: Count }),
  Schema.TaggedStruct("Tokens", {
    epoch: Count,
    at: Count,
    tokens: Schema.Array(LoggedToken),
    prompt: Schema.optionalKey(Count), // tokens of it that were told before, where they were asked for
  }),
  /** The ranks were lost while a pass of the session ran, this many times in a row at this position. Means nothing to readers. */
  Schema.TaggedStruct("Lost", { epoch: Count, at: Count, count: Count }),
  Schema.TaggedStruct("End", {
    epoch: Count,
    at: Count, // tokens in all
    text: Schema.String, // what was held back: the rest of an unfinished character
    finishReason: FinishReason,
    error: Schema.String, // empty unless it failed
    endToken: Schema.optionalKey(EndToken),
    stats: GenerationStats,
    prompt: Schema.optionalKey(Count), // as in Tokens
  }),
]).pipe(Schema.toTaggedUnion("_tag"))
export type LogEntry = typeof LogEntry.Type

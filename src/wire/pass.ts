// The commands of a group and their answers: one command starts a pass, one answer ends it. A command reaches every rank
// of the group; the rank that ends with the logits answers (rank 0 of `single` and `layer`, the last one of `pipeline`).
//
// Idempotence: (epoch, pass) names a pass; a repetition keeps the number and raises `attempt`. `committed` is the length
// of exact KV that the pass builds on, after `acceptedRows` has been applied; a rank that has applied it already sees that its
// own length equals `committed` and does nothing.
import { Schema } from "effect"
import { PassError } from "./errors.ts"
import { Count, Positive } from "./scalar.ts"
import { Seed } from "./seed.ts"

const Tokens = Schema.Array(Count)

/** Of a command: each is looked at once, by the rank that knows the vocabulary (rank/pass/check.ts). */
const Given = Schema.declare((value): value is ReadonlyArray<number> => Array.isArray(value))

/** Rows that a pass takes at most: a chunk of a prompt, or the bonus token and a tree. */
export const PASS_ROWS = 512

const between = (minimum: number, maximum: number) =>
  Schema.Finite.pipe(Schema.check(Schema.isBetween({ minimum, maximum })))

/** Tokens that a request may bias. */
export const MOST_BIASES = 1_024

/** What is left out is off. Tokens of a bias may come in any order, each once. */
export const Sampling = Schema.Struct({
  temperature: between(0, 100),
  topK: Count, // 0: off
  topP: between(0, 1), // 1: off
  minP: between(0, 1), // 0: off
  repetitionPenalty: between(0.01, 100), // 1: off
  /** Of the tokens at position `from` and after it, the answer's: for having come, and for each time. */
  penalties: Schema.optionalKey(Schema.Struct({ presence: between(-2, 2), frequency: between(-2, 2), from: Count })),
  bias: Schema.optionalKey(
    Schema.Array(Schema.Tuple([Count, between(-100, 100)])).pipe(Schema.check(Schema.isMaxLength(MOST_BIASES))),
  ), // a token, and what is added to its logit; -100 is a ban
  /** Tokens that are not chosen for positions before `before`: those that would end the answer too early. */
  barred: Schema.optionalKey(Schema.Struct({ tokens: Tokens, before: Count })),
  seed: Seed,
})
export type Sampling = typeof Sampling.Type

/** The most probable token each time, whatever came before. */
export const GREEDY: Sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0n }

/** Long enough for a UUID, and short enough to be kept for each. */
const SessionName = Schema.NonEmptyString.pipe(Schema.check(Schema.isMaxLength(128)))

const base = {
  session: SessionName,
  epoch: Count,
  pass: Count,
  attempt: Count,
  committed: Count,
}

/** How many of the most probable tokens of each row are told besides the chosen one; left out: no log-probabilities at all. */
const Alternatives = Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 0, maximum: 20 })))
const logprobs = Schema.optionalKey(Alternatives)

/**
 * Exact pass over a chunk of the prompt, or of whatever the KV lacks; commits it. The first one opens the session: it has
 * `committed` 0, or begins with a copy of the first `committed` tokens' KV of another session, `from`, that has ended and
 * was not released. A rank that does not hold that answers UnknownSession. With `source` it is the same rank of another group
 * that has `from`, and sends it: a session, this one even, moves. With `scored` the answer has the log-probabilities of the
 * tokens that come after each of these, `following` after the last.
 */
export const Prefill = Schema.TaggedStruct("Prefill", {
  ...base,
  from: Schema.optionalKey(Schema.NonEmptyString),
  source: Schema.optionalKey(Schema.Struct({ epoch: Count, group: Schema.NonEmptyString })),
  tokens: Given,
  sampling: Sampling,
  scored: Schema.optionalKey(Schema.Struct({ following: Count, alternatives: Alternatives })),
})

/**
 * Decoding without a draft: `steps` exact passes of one row, the first over the bonus token, each further one over the
 * token that the one before chose. Their KV is committed. One command and one answer for all of them; a token that ends a
 * generation ends them early. `acceptedRows` as in Verify.
 */
export const Decode = Schema.TaggedStruct("Decode", {
  ...base,
  acceptedRows: Schema.Array(Count),
  token: Count,
  steps: Positive,
  logprobs,
})

/**
 * Exact pass over the bonus token (row 0) and the draft tree's nodes (parents index the rows; -1 is for row 0 alone, whose
 * parent is the last committed token). `acceptedRows` names the rows of the session's previous verify pass that were accepted, in
 * order; row 0 is always among them.
 */
export const Verify = Schema.TaggedStruct("Verify", {
  ...base,
  acceptedRows: Schema.Array(Count),
  tokens: Given,
  parents: Schema.Array(Schema.Int),
  logprobs,
})

/** A session's part of a Draft: what was accepted last, the bonus token at its end, and the shape of the tree. */
export const SessionDraft = Schema.Struct({
  session: SessionName,
  committed: Count,
  accepted: Given,
  depth: Positive,
  width: Positive,
  nodes: Positive,
})

/**
 * To a draft group, for one session or for several whose passes run together: every rank sees the same rows, and the hops
 * are shared. Of each session: drop all fuzzy KV, run `accepted` exactly and commit it (bonus calibration), then draft a
 * tree with fuzzy passes of group size `fuzzy` (1: exact drafting) without asking anyone between depths. Where one of the
 * sessions cannot run the whole is refused.
 */
export const Draft = Schema.TaggedStruct("Draft", {
  epoch: Count,
  pass: Count,
  attempt: Count,
  fuzzy: Positive,
  sessions: Schema.NonEmptyArray(SessionDraft),
})

export const PassCommand = Schema.Union([Prefill, Decode, Verify, Draft]).pipe(Schema.toTaggedUnion("_tag"))
export type PassCommand = typeof PassCommand.Type
export type Prefill = typeof Prefill.Type
export type Decode = typeof Decode.Type
export type Verify = typeof Verify.Type
export type SessionDraft = typeof SessionDraft.Type
export type Draft = typeof Draft.Type

/** The sessions that a pass is for, and the KV of each that it builds on. */
export const sessionsOf = (command: PassCommand): ReadonlyArray<Pick<SessionDraft, "session" | "committed">> =>
  command._tag === "Draft" ? command.sessions : [command]

/** What a part of a pass took: time as the answering rank saw it, messages and payload bytes of all ranks. */
export const PassCost = Schema.Struct({
  millis: Schema.Finite,
  computeMillis: Schema.Finite, // of the answering rank's device
  hops: Count, // messages one after the other on the critical path between ranks
  messages: Count,
  bytes: Count,
})
export type PassCost = typeof PassCost.Type

/** Of each row, under softmax(logits): the chosen token's, and the `logprobs` best, best first, one row after the other. */
export const RowLogProbs = Schema.Struct({
  chosen: Schema.Array(Schema.Number),
  tokens: Tokens,
  logProbs: Schema.Array(Schema.Number),
})
export type RowLogProbs = typeof RowLogProbs.Type
const logProbs = Schema.optionalKey(RowLogProbs) // only where they were asked for

export const Prefilled = Schema.TaggedStruct("Prefilled", { pass: Count, logProbs, cost: PassCost })
export const Decoded = Schema.TaggedStruct("Decoded", { pass: Count, tokens: Tokens, logProbs, cost: PassCost })
/** `choices[i]`: the sampler's token after row i. */
export const Verified = Schema.TaggedStruct("Verified", { pass: Count, choices: Tokens, logProbs, cost: PassCost })
/**
 * A session's tree without its root (the bonus token): parents index `tokens`, -1 is the root. `steps`: each fuzzy pass by
 * itself. Messages, bytes and computing are shared out among the sessions of the command.
 */
export const DraftedTree = Schema.Struct({
  tokens: Tokens,
  parents: Schema.Array(Schema.Int),
  logProbs: Schema.Array(Schema.Number), // cumulative
  calibrate: PassCost,
  draft: PassCost, // all steps together
  steps: Schema.Array(Schema.Struct({ rows: Count, millis: Schema.Finite })),
})
/** In the order of the command's sessions. */
export const Drafted = Schema.TaggedStruct("Drafted", { pass: Count, trees: Schema.NonEmptyArray(DraftedTree) })
export const Refused = Schema.TaggedStruct("Refused", { pass: Count, error: PassError })

export const PassAnswer = Schema.Union([Prefilled, Decoded, Verified, Drafted, Refused]).pipe(
  Schema.toTaggedUnion("_tag"),
)
export type PassAnswer = typeof PassAnswer.Type
export type Prefilled = typeof Prefilled.Type
export type Decoded = typeof Decoded.Type
export type Verified = typeof Verified.Type
export type DraftedTree = typeof DraftedTree.Type
export type Drafted = typeof Drafted.Type

/** To every rank of a group, without an answer: Release frees a session's KV; Abort also stops a pass of it that runs. */
export const GroupControl = Schema.Union([
  Schema.TaggedStruct("Release", { session: SessionName }),
  Schema.TaggedStruct("Abort", { session: SessionName }),
]).pipe(Schema.toTaggedUnion("_tag"))
export type GroupControl = typeof GroupControl.Type

// What is to be generated: the payload of the workflow.
import { Schema, SchemaGetter } from "effect"
import { Sampling } from "../wire/pass.ts"
import { Count, Positive } from "../wire/scalar.ts"

type Tokens = readonly [number, ...ReadonlyArray<number>]

/** Tokens were checked where they entered (session/request.ts), so a record is not gone through for each of them. */
const Tokens = Schema.declare((value): value is Tokens => Array.isArray(value) && value.length > 0, {
  toCodecJson: () =>
    Schema.link<Tokens>()(Schema.Any, { decode: SchemaGetter.passthrough(), encode: SchemaGetter.passthrough() }),
})

/** What is to be generated: the workflow's payload. Nothing in it is left to a default. */
export const GenerateRequest = Schema.Struct({
  session: Schema.NonEmptyString,
  prompt: Tokens,
  maxTokens: Count,
  minTokens: Count, // before which neither an end nor a stop string ends it
  ignoreEos: Schema.Boolean, // an end of the model's does not end it
  sampling: Sampling,
  stop: Schema.Array(Schema.NonEmptyString),
  speculation: Schema.Union([
    Schema.Literals(["adaptive", "none"]),
    Schema.Struct({ depth: Positive, width: Positive, nodes: Positive }),
  ]),
  fuzzy: Positive,
  trace: Schema.Boolean, // whether iterations are published for observers
  logprobs: Schema.NullOr(Count), // alternatives logged with each token; null: not even the token's own
  promptLogprobs: Schema.NullOr(Count), // likewise with each token of the prompt
  model: Schema.String, // of the base group, as the deployment names it
  client: Schema.NullOr(Schema.String), // the asker, for limits of each client
  deadlineMillis: Schema.NullOr(Positive), // from its acceptance
  interestMillis: Schema.NullOr(Positive), // how long it may go unread
  answerTo: Schema.NullOr(Schema.NonEmptyString), // subject that waits for the whole answer; null: the log is read
  after: Count, // sequence of the log's Begin
})
export type GenerateRequest = typeof GenerateRequest.Type

/**
 * The name of a session's KV on the ranks: each owner has its own, so two of them never meet there. `ended` counts the runs of
 * this owner that came to an end which the log did not take: what they left under their names may be in use by others.
 */
export const kvOf = (session: string, epoch: number, ended = 0): string => {
  if (ended > 0) return `${session}.${epoch}.${ended}`
  return epoch === 1 ? session : `${session}.${epoch}`
}

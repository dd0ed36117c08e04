// The state of one generation between its passes.
import { Context, type Effect, type Fiber, Schema, type Scope, type Semaphore } from "effect"
import type { Group } from "../group/group.ts"
import type { Tokenizer } from "../model/index.ts"
import type { Adaptive, Known } from "../speculation/adaptive.ts"
import type { ActivationFailed, Cancelled, NoPlacement, UnknownDeployment } from "../wire/errors.ts"
import type { ColdStart, EndToken, LoggedToken, PromptToken } from "../wire/infer.ts"
import { Sampling } from "../wire/pass.ts"
import type { Step } from "./decode.ts"
import type { GenerateError } from "./errors.ts"
import type { Losses } from "./lossPolicy.ts"
import type { Prefixes, Reuse } from "./prefixes.ts"
import type { Measured } from "./speculationControl.ts"
import type { Tally } from "./stats.ts"
import type { Transcript } from "./transcript.ts"

const Count = Schema.Int.pipe(Schema.check(Schema.isGreaterThanOrEqualTo(0)))
const Positive = Schema.Int.pipe(Schema.check(Schema.isGreaterThanOrEqualTo(1)))

/** What is to be generated: the workflow's payload. Nothing in it is left to a default. */
export const GenerateRequest = Schema.Struct({
  session: Schema.NonEmptyString,
  prompt: Schema.NonEmptyArray(Count), // tokens
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
  trace: Schema.Boolean, // whether iterations are told to those who watch
  logprobs: Schema.NullOr(Count), // alternatives logged with each token; null: not even the token's own
  promptLogprobs: Schema.NullOr(Count), // likewise with each token of the prompt
  model: Schema.String, // of the base group, as the deployment names it
  client: Schema.NullOr(Schema.String), // who asked, for limits of each client
  deadlineMillis: Schema.NullOr(Positive), // from its acceptance
  interestMillis: Schema.NullOr(Positive), // how long it may be read by nobody
  answerTo: Schema.NullOr(Schema.NonEmptyString), // subject that waits for the whole answer; null: the log is read
  after: Count, // sequence of the log's Begin
})
export type GenerateRequest = typeof GenerateRequest.Type

/** The parts of a cold start before the generation begins. */
export type RankStart = Pick<ColdStart, "placementMillis" | "processStartMillis" | "modelLoadMillis">

/** The ranks that a generation runs on, and what their tokens mean. */
export class Models extends Context.Service<
  Models,
  {
    readonly base: Group
    readonly draft: Group | null
    readonly prefill: Group | null // ranks that fill prompts in for the base's
    readonly tokenizer: Tokenizer
    /** What the adaptive control has learned of this deployment. */
    readonly learned: { current: Known | undefined }
    /** KV of ended sessions there. */
    readonly prefixes: Prefixes
  }
>()("chorus/generation/Models") {}

/** Where a session runs: known when a replica has room, which may be after ranks were started for it. */
export class Place extends Context.Service<
  Place,
  {
    readonly tokenizer: Tokenizer // of the base
    /** The turns of sessions that may bring down their ranks: one at a time. */
    readonly suspects: Semaphore.Semaphore
    /** The session's models until the scope closes, when there is memory for all of its KV. */
    readonly take: Effect.Effect<
      {
        readonly models: Models["Service"]
        readonly coldStart: RankStart | null
        /** Whether the session should go on elsewhere: its ranks are to end, and others have room for it. */
        readonly leaves: () => boolean
      },
      NotReady,
      Scope.Scope
    >
  }
>()("chorus/generation/Place") {}

/** Why a session gets no replica. */
export type NotReady = NoPlacement | ActivationFailed | UnknownDeployment

/** What a session is allowed: its share of the memory for KV. */
export class Admitted extends Context.Service<
  Admitted,
  {
    /** Ends when there is memory for all of the session's KV. */
    readonly begin: Effect.Effect<void>
    /** How many sessions run, this one among them. */
    readonly running: () => number
    readonly progressed: (progress: Progress) => void
  }
>()("chorus/generation/Admitted") {}

/** What an iteration, or several plain steps, brought. */
export interface Progress {
  readonly tokens: number
  readonly drafted: number // proposed
  readonly accepted: number // of those
  readonly iterations: number
}

/** The time that a request gave itself is over. */
export class DeadlineOver extends Schema.TaggedError<DeadlineOver>()("DeadlineOver", { session: Schema.String }) {}

/** Its supervisor was told to end, and there will be no other one for it. */
export class ServingOver extends Schema.TaggedError<ServingOver>()("ServingOver", { session: Schema.String }) {
  override get message() {
    return "the deployment was ended while the answer was generated. Try again when it is served"
  }
}

/** What ends a session before its time. */
export type EarlyEnd = Cancelled | DeadlineOver | ServingOver

/** Fails when a session has to end before its time. */
export class Cancellation extends Context.Service<
  Cancellation,
  { readonly of: (session: string) => Effect.Effect<never, EarlyEnd> }
>()("chorus/generation/Cancellation") {}

/**
 * The name of a session's KV on the ranks: each owner has its own, so two of them never meet there. `ended` counts the runs of
 * this owner that came to an end which the log did not take: what they left under their names may be in use by others.
 */
export const kvOf = (session: string, epoch: number, ended = 0): string => {
  if (ended > 0) return `${session}.${epoch}.${ended}`
  return epoch === 1 ? session : `${session}.${epoch}`
}

export interface Generation {
  readonly request: GenerateRequest
  readonly epoch: number // of its owner
  readonly kv: string
  readonly after: number // sequence of what the log held when it began, or went on, here
  readonly scope: Scope.Scope // that the writes to the log live in
  readonly transcript: Transcript
  readonly tally: Tally
  readonly logged: Array<LoggedToken>
  readonly prompt: Array<PromptToken> // in the log, where it is to be told
  /** Prompt and answer; the last one is the bonus token, which no KV has yet. */
  readonly tokens: Array<number>
  /** Exact KV in the base group, and the rows of its last verify pass that are to be kept in the next one. */
  base: { readonly committed: number; readonly keep: ReadonlyArray<number> }
  /** Exact KV in the draft group; it may lag behind, as while nothing is drafted. */
  draft: { readonly committed: number }
  /** Where its KV may be copied from, in place of a prefill. */
  reuse: Reuse | null
  step: Step | null // of decoding, lately
  readonly running: () => number // sessions, this one among them
  losses: Losses
  drafts: boolean // false where the draft's ranks are left alone, whatever there are
  passes: number // names the activities
  /** What the start of its ranks took, where it had to wait for it. */
  coldStart: RankStart | null
  adaptive: Adaptive | null // null where a setting is forced
  measured: Measured
  finish: "stop" | "length" | null
  endToken: EndToken | null // that it has ended with, where log-probabilities are told
  /** The newest write to the log; it gives the sequence that the next one comes after. */
  written: Fiber.Fiber<number, GenerateError> | null
}

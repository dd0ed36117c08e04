// What a generation asks of its supervisor: ranks, a place on them, its share of their memory, and when to end.
import { Context, type Effect, Schema, type Scope, type Semaphore } from "effect"
import type { Group } from "../group/group.ts"
import type { Tokenizer } from "../model/index.ts"
import type { Known } from "../speculation/adaptive.ts"
import type { ActivationFailed, Cancelled, NoPlacement, UnknownDeployment } from "../wire/errors.ts"
import type { ColdStart } from "../wire/infer.ts"
import type { Prefixes } from "./prefixes.ts"

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
export class SessionPlace extends Context.Service<
  SessionPlace,
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

// The state of one generation between its passes.
import type { Fiber, Scope } from "effect"
import type { Adaptive } from "../speculation/adaptive.ts"
import type { EndToken, LoggedToken, PromptToken } from "../wire/infer.ts"
import type { Step } from "./decode.ts"
import type { GenerateError } from "./errors.ts"
import type { Losses } from "./lossPolicy.ts"
import type { Reuse } from "./prefixes.ts"
import type { GenerateRequest } from "./request.ts"
import type { RankStart } from "./services.ts"
import type { Measured } from "./speculationControl.ts"
import type { Tally } from "./stats.ts"
import type { Transcript } from "./transcript.ts"

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
  base: { readonly committed: number; readonly acceptedRows: ReadonlyArray<number> }
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

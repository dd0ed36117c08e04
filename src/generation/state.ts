// The state of a generation between two activities. Each takes one and returns the next, so one that fails or is
// interrupted leaves the one before as it was.
import type { Scope } from "effect"
import type { Tokenizer } from "../model/index.ts"
import type { Row } from "../speculation/indices.ts"
import type { Journal } from "./journal.ts"
import type { Reuse } from "./prefixes.ts"
import type { GenerateRequest } from "./request.ts"
import type { Models } from "./services.ts"
import type { Control } from "./speculationControl.ts"
import type { Tally } from "./stats.ts"

export interface Generation {
  readonly run: Run
  readonly journal: Journal
  readonly placed: Placed
  readonly control: Control
}

/** Before it has ranks. */
export type Unplaced = Pick<Generation, "run" | "journal">

/** What is the same from a run's begin to its end. */
export interface Run {
  readonly request: GenerateRequest
  readonly epoch: number // of its owner
  readonly kv: string // its name on the ranks
  readonly tokenizer: Tokenizer
  readonly tally: Tally
  readonly running: () => number // sessions, this one among them
  readonly name: (kind: string) => string // of its next activity
  readonly scope: Scope.Scope // that the writes to the log live in
}

/** Its ranks, and the KV that they hold of it. Lost with them. */
export interface Placed {
  readonly models: Models["Service"]
  /** Exact KV in the base group, and the rows of its last verify pass that are to be kept in the next one. */
  readonly base: { readonly committed: number; readonly acceptedRows: ReadonlyArray<Row> }
  /** Exact KV in the draft group; it may lag behind, as while nothing is drafted. */
  readonly draft: { readonly committed: number }
  /** Where its KV may be copied from, in place of a prefill. */
  readonly reuse: Reuse | null
}

/** The state after a change of what its ranks hold. */
export const holding = (generation: Generation, change: Partial<Omit<Placed, "models">>): Generation => ({
  ...generation,
  placed: { ...generation.placed, ...change },
})

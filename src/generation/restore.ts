// A generation from its journal: a new one has nothing but its prompt; one that goes on has the tokens in its log, and what
// follows from them. Who goes on writes an entry of his own first: from then on nothing that a former owner sends is taken,
// since it says that it comes after another entry (Kleppmann's fencing token, held by the log).
import { Effect } from "effect"
import type { Tokenizer } from "../model/index.ts"
import { type Logged, TokenLog } from "../store/tokenLog.ts"
import { SessionExpired } from "../wire/errors.ts"
import type { LogEntry } from "../wire/infer.ts"
import { OwnerChanged } from "./errors.ts"
import { type Losses, lossesOf, NO_LOSSES } from "./lossPolicy.ts"
import { type GenerateRequest, kvOf } from "./request.ts"
import { Admitted } from "./services.ts"
import { nothing } from "./speculationControl.ts"
import type { Generation } from "./state.ts"
import { Tally } from "./stats.ts"
import { Transcript } from "./transcript.ts"

/** What a log says of a session. */
export interface Journal {
  readonly tokens: Extract<LogEntry, { readonly _tag: "Tokens" }>["tokens"]
  readonly prompt: Extract<LogEntry, { readonly _tag: "Prompt" }>["tokens"] // as far as it was told
  readonly end: Extract<LogEntry, { readonly _tag: "End" }> | null
  readonly losses: Losses
  readonly epoch: number // of its newest owner
  readonly last: number // sequence; 0 where there is nothing
}

/**
 * Null where the retention has taken its beginning. What follows on a later owner's entry counts for nothing: where the log has
 * lost its tail, sequences come again, and one of a former owner's may fit.
 */
export const journalOf = (entries: ReadonlyArray<Logged>): Journal | null => {
  const tokens: Array<Journal["tokens"][number]> = []
  const prompt: Array<Journal["prompt"][number]> = []
  let end: Journal["end"] = null
  let epoch = 0
  const counting: Array<LogEntry> = []
  for (const { entry } of entries) {
    if (entry.epoch < epoch) continue
    if (entry.at > tokens.length) return null
    counting.push(entry)
    if (entry._tag === "Tokens") tokens.push(...entry.tokens.slice(tokens.length - entry.at))
    if (entry._tag === "Prompt" && entry.from <= prompt.length)
      prompt.push(...entry.tokens.slice(prompt.length - entry.from))
    if (entry._tag === "End") end = entry
    epoch = entry.epoch
  }
  const losses = lossesOf(counting)
  return { tokens, prompt, end, losses, epoch, last: entries.at(-1)?.sequence ?? 0 }
}

/** What is to be done with a journal by the owner of an epoch. */
export type Standing =
  | { readonly _tag: "Fenced" } // a later owner has written: leave it alone
  | { readonly _tag: "Fence"; readonly entry: LogEntry } // say first whose it is now
  | { readonly _tag: "Ours" }

export const standingOf = (journal: Journal, epoch: number): Standing => {
  if (journal.end !== null) return { _tag: "Ours" } // whoever has ended it, all that is left is to say so
  if (journal.epoch > epoch) return { _tag: "Fenced" }
  if (journal.epoch === epoch) return { _tag: "Ours" }
  return { _tag: "Fence", entry: { _tag: "Owner", epoch, at: journal.tokens.length } }
}

/** The journal as the owner of this epoch may go on from it. */
export const recover = Effect.fnUntraced(function* (request: GenerateRequest, epoch: number) {
  const { session } = request
  const log = yield* TokenLog
  const read = journalOf(yield* log.read(session))
  if (read === null) return yield* new SessionExpired({ session })
  // The stream was lost, and made again: its readers find it as it began.
  const journal =
    read.last > 0 ? read : { ...read, epoch: 1, last: yield* log.append(session, beginningOf(request), 0) }
  const standing = standingOf(journal, epoch)
  if (standing._tag === "Fenced") return yield* new OwnerChanged({ session })
  if (standing._tag === "Ours") return journal
  return { ...journal, last: yield* log.append(session, standing.entry, journal.last) }
})

/** What is told of a session that begins, in the answer and in its log. */
export const particularsOf = ({ prompt, sampling }: Pick<GenerateRequest, "prompt" | "sampling">) => {
  const { seed, temperature, topK, topP, minP, repetitionPenalty } = sampling
  return { promptTokens: prompt.length, seed, sampling: { temperature, topK, topP, minP, repetitionPenalty } }
}

/** The first entry of a session's log. */
export const beginningOf = ({
  interestMillis,
  ...request
}: Pick<GenerateRequest, "prompt" | "sampling" | "interestMillis">): LogEntry => ({
  ...{ _tag: "Begin", epoch: 1, at: 0, ...particularsOf(request) },
  ...(interestMillis === null ? {} : { interestMillis }),
})

/** Of a session that has just been accepted. */
export const begun = ({ after }: GenerateRequest): Journal => ({
  ...{ tokens: [], prompt: [], end: null, losses: NO_LOSSES, epoch: 1, last: after },
})

/** What a run of a generation begins with. */
export interface Run {
  readonly journal: Journal
  readonly epoch: number
  readonly ended: number // runs before it whose end the log did not take
}

export const restore = Effect.fnUntraced(function* (
  request: GenerateRequest,
  { journal, epoch, ended, tokenizer }: Run & { readonly tokenizer: Tokenizer },
) {
  const admitted = yield* Admitted
  const transcript = new Transcript(tokenizer, request.stop, request.minTokens)
  for (const { id } of journal.tokens) transcript.push(id)
  const tally = new Tally(request.prompt.length)
  tally.goneOn(journal.tokens.length)
  const generation: Generation = {
    ...{ request, epoch, kv: kvOf(request.session, epoch, ended), after: journal.last, transcript, tally },
    scope: yield* Effect.scope,
    logged: [...journal.tokens],
    prompt: [...journal.prompt],
    tokens: [...request.prompt, ...journal.tokens.map(({ id }) => id)],
    base: { committed: 0, acceptedRows: [] },
    draft: { committed: 0 },
    reuse: null,
    running: admitted.running,
    step: null,
    losses: journal.losses,
    drafts: true,
    passes: 0,
    coldStart: null,
    adaptive: null,
    measured: nothing(),
    finish: finishOf(transcript, journal.tokens.length, request.maxTokens),
    endToken: null,
    written: null,
  }
  return generation
})

/** Whether these tokens are all that there will be. */
export const finishOf = (transcript: Transcript, tokens: number, maxTokens: number): Generation["finish"] => {
  if (transcript.stopped) return "stop"
  return tokens >= maxTokens ? "length" : null
}

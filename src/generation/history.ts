// What a log says of its session, and what the owner of an epoch may do with it. Plain data.
import type { Logged } from "../store/tokenLog.ts"
import type { LogEntry } from "../wire/infer.ts"
import { type Losses, lossesOf, NO_LOSSES } from "./losses.ts"
import type { GenerateRequest } from "./request.ts"

export interface History {
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
export const historyOf = (entries: ReadonlyArray<Logged>): History | null => {
  const tokens: Array<History["tokens"][number]> = []
  const prompt: Array<History["prompt"][number]> = []
  let end: History["end"] = null
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

/** What is to be done with a history by the owner of an epoch. */
export type Standing =
  | { readonly _tag: "Fenced" } // a later owner has written: leave it alone
  | { readonly _tag: "Fence"; readonly entry: LogEntry } // say first whose it is now
  | { readonly _tag: "Ours" }

export const standingOf = (history: History, epoch: number): Standing => {
  if (history.end !== null) return { _tag: "Ours" } // whichever owner ended it, all that is left is to say so
  if (history.epoch > epoch) return { _tag: "Fenced" }
  if (history.epoch === epoch) return { _tag: "Ours" }
  return { _tag: "Fence", entry: { _tag: "Owner", epoch, at: history.tokens.length } }
}

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
  _tag: "Begin",
  epoch: 1,
  at: 0,
  ...particularsOf(request),
  ...(interestMillis === null ? {} : { interestMillis }),
})

/** Of a session that has just been accepted. */
export const begun = ({ after }: GenerateRequest): History => ({
  tokens: [],
  prompt: [],
  end: null,
  losses: NO_LOSSES,
  epoch: 1,
  last: after,
})

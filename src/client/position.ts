// Where a reader is in a session's tokens: each is taken once and in order, whatever the log holds twice. Plain data.
import type { LogEntry, LoggedToken, PromptToken } from "../wire/infer.ts"

type End = Extract<LogEntry, { readonly _tag: "End" }>
type Prompt = Extract<LogEntry, { readonly _tag: "Prompt" }>

export type Taken =
  | { readonly _tag: "Tokens"; readonly tokens: ReadonlyArray<LoggedToken> } // that are new to the reader
  | { readonly _tag: "Prompt"; readonly tokens: ReadonlyArray<PromptToken> } // likewise
  | { readonly _tag: "End"; readonly end: End }
  | { readonly _tag: "Gap" } // what lies between has to be read first: from the log's beginning
  | { readonly _tag: "Expired" } // it is not there either

export class Position {
  #at: number
  #prompt: number // tokens of it that were taken
  #epoch = 0 // of the newest owner
  #missed = false

  /** `at`: of the first token wanted. A reader that begins in the middle of a log has no use for the prompt. */
  constructor(at: number, wantsPrompt = true) {
    this.#at = at
    this.#prompt = wantsPrompt ? 0 : Number.POSITIVE_INFINITY
  }

  take(entry: LogEntry): Taken {
    if (entry.epoch < this.#epoch) return { _tag: "Tokens", tokens: [] } // a former owner's, after a tail was lost
    this.#epoch = entry.epoch
    if (entry.at > this.#at) return this.#gap()
    if ("prompt" in entry && entry.prompt > this.#prompt) return this.#gap()
    if (entry._tag === "End") return { _tag: "End", end: entry }
    if (entry._tag === "Prompt") return this.#promptOf(entry)
    if (entry._tag !== "Tokens") return { _tag: "Tokens", tokens: [] }
    const tokens = entry.tokens.slice(this.#at - entry.at)
    this.#at += tokens.length
    if (tokens.length > 0) this.#missed = false
    return { _tag: "Tokens", tokens }
  }

  #promptOf({ from, tokens }: Prompt): Taken {
    if (from > this.#prompt) return this.#gap()
    const taken = tokens.slice(this.#prompt - from)
    this.#prompt += taken.length
    if (taken.length > 0) this.#missed = false
    return { _tag: "Prompt", tokens: taken }
  }

  /** A log that has lost its tail has what is missing under numbers that were read already; or its retention is over. */
  #gap(): Taken {
    const again = this.#missed
    this.#missed = true
    this.#epoch = 0 // of the log's beginning: what is missing may be a former owner's
    return { _tag: again ? "Expired" : "Gap" }
  }
}

// Losses of a session's ranks while a pass of it ran, as its log counts them: in a row at one position of its answer. A
// token in between forgets those before it.
import type { LogEntry } from "../wire/infer.ts"

export interface Losses {
  readonly at: number
  readonly count: number
}

export const NO_LOSSES: Losses = { at: 0, count: 0 }

export const lose = (before: Losses, at: number): Losses => ({ at, count: before.at === at ? before.count + 1 : 1 })

/** As a session's log has them. */
export const lossesOf = (entries: ReadonlyArray<LogEntry>): Losses => {
  const last = entries.findLast((entry) => entry._tag === "Lost")
  return last === undefined ? NO_LOSSES : { at: last.at, count: last.count }
}

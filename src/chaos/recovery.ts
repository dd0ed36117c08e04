// How long generations stood still: from each fault to the next token of the session that waited longest for it. Pure.
import type { GenerationOutcome } from "./generation.ts"
import { kindOf } from "./plan.ts"
import type { Struck } from "./strike.ts"

/** Of the faults of one kind. Times are null where no session ran at any of them. */
export interface Recovery {
  readonly kind: string
  readonly faults: number
  readonly medianMillis: number | null
  readonly p95Millis: number | null
  readonly longestMillis: number | null
  readonly millis: ReadonlyArray<number> // all of them, the shortest first
}

export const recoveries = (
  struck: ReadonlyArray<Struck>,
  outcomes: ReadonlyArray<GenerationOutcome>,
): ReadonlyArray<Recovery> => {
  const kinds = [...new Set(struck.map(({ fault }) => kindOf(fault)))].sort()
  return kinds.map((kind) => {
    const ofKind = struck.filter(({ fault }) => kindOf(fault) === kind)
    const times = ofKind
      .flatMap(({ at }) => recoveryOf(at, outcomes) ?? [])
      .map(Math.round)
      .sort((a, b) => a - b)
    return {
      ...{ kind, faults: ofKind.length, medianMillis: quantile(times, 0.5), p95Millis: quantile(times, 0.95) },
      ...{ longestMillis: quantile(times, 1), millis: times },
    }
  })
}

/** Null where no session ran at that time. */
const recoveryOf = (at: number, outcomes: ReadonlyArray<GenerationOutcome>): number | null => {
  const waits = outcomes.flatMap(({ arrivals: [accepted = Number.POSITIVE_INFINITY, ...tokens] }) => {
    const next = tokens.find((time) => time > at)
    return accepted > at || next === undefined ? [] : [next - at]
  })
  return waits.length === 0 ? null : Math.max(...waits)
}

/** The smallest that a share of them does not exceed. */
const quantile = (sorted: ReadonlyArray<number>, share: number): number | null =>
  sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? null

// Restarts in OTP's terms: a child that ends by itself is started again, with a growing pause, until there were more than
// `intensity` restarts within `periodMillis`; then it is given up. A child that ends with 0 was drained and stays down.

export interface RestartPolicy {
  readonly intensity: number
  readonly periodMillis: number
  readonly pauseMillis: number // before the first restart; doubled with each further one within the period
  readonly longestPauseMillis: number
}

/** Of every child, counted for each by itself: that one keeps ending says nothing of the others. */
export const RESTARTS: RestartPolicy = {
  intensity: 5,
  periodMillis: 60_000,
  pauseMillis: 100,
  longestPauseMillis: 5_000,
}

/** When restarts were made, in milliseconds of a clock that cannot be set, the oldest first; those of the period alone count. */
export type History = ReadonlyArray<number>

export type Restart =
  | { readonly _tag: "Again"; readonly afterMillis: number; readonly history: History }
  | { readonly _tag: "GiveUp"; readonly restarts: number }

export const restart = (history: History, now: number, policy: RestartPolicy): Restart => {
  const recent = history.filter((at) => now - at < policy.periodMillis)
  if (recent.length >= policy.intensity) return { _tag: "GiveUp", restarts: recent.length }
  const afterMillis = Math.min(policy.longestPauseMillis, policy.pauseMillis * 2 ** recent.length)
  return { _tag: "Again", afterMillis, history: [...recent, now] }
}

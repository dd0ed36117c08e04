// A condition variable: something that changes now and then, and the fibres that wait for it. A fibre that is woken looks again.
import { Effect } from "effect"

export interface Changes {
  /** Wakes every waiting fibre. */
  readonly tell: () => void
  /** Ends with the next change. */
  readonly next: Effect.Effect<void>
  /** Ends when this holds, which is looked at now and with each change. */
  readonly until: (holds: () => boolean) => Effect.Effect<void>
}

export const changes = (): Changes => {
  const waiting = new Set<() => void>()
  const next = Effect.callback<void>((resume) => {
    const done = (): void => {
      if (waiting.delete(done)) resume(Effect.void)
    }
    waiting.add(done)
    return Effect.sync(() => waiting.delete(done))
  })
  const until = (holds: () => boolean): Effect.Effect<void> =>
    Effect.suspend(() => (holds() ? Effect.void : Effect.andThen(next, until(holds))))
  return {
    tell: () => {
      for (const resume of [...waiting]) resume()
    },
    next,
    until,
  }
}

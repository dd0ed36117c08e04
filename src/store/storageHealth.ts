// Which storages of a server refuse to write, as this process heard last. It is logged once, and part of the answer to
// whether this process is ready.
import { Effect } from "effect"
import { StorageRefused } from "../wire/errors.ts"

/** A refusal that has not been heard again for this long is over, as far as is known: the next write finds out. */
const FORGET_MILLIS = 10_000

export class StorageHealth {
  readonly #refused = new Map<string, { readonly reason: string; readonly at: number }>()

  /** True where that is news. */
  refuses({ storage, reason }: StorageRefused, now: number): boolean {
    const before = this.#refused.get(storage)
    this.#refused.set(storage, { reason, at: now })
    return before?.reason !== reason
  }

  /** It has taken a write. True where it had refused one before. */
  takes(storage: string): boolean {
    return this.#refused.delete(storage)
  }

  /** What refuses, and why; empty where nothing does. */
  reason(now: number): string {
    return [...this.#refused]
      .filter(([, { at }]) => now - at < FORGET_MILLIS)
      .map(([storage, { reason }]) => `${storage}: ${reason}`)
      .join("; ")
  }
}

/** Runs a write, and keeps in mind, and in the log, whether its stream takes it. */
export const minded = <A, E, R>(
  health: StorageHealth,
  stream: string,
  write: Effect.Effect<A, E, R>,
): Effect.Effect<A, E, R> =>
  write.pipe(
    Effect.tap(() => (health.takes(stream) ? Effect.logInfo(`${stream} takes what is written again`) : Effect.void)),
    Effect.tapError((error) => {
      // What is too large for it says nothing of what others write.
      if (!(error instanceof StorageRefused) || error.tooLarge || !health.refuses(error, performance.now())) {
        return Effect.void
      }
      return Effect.logError(error.message)
    }),
  )

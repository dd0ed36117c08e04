// Which storages of a server refuse to write, as this process has heard last. It is told to the log once, and to whoever asks
// whether we are ready.
import type { NatsConnection } from "@nats-io/transport-node"
import { Effect } from "effect"
import type { StorageRefused } from "../wire/errors.ts"
import { refusalOf } from "./refusal.ts"

/** A refusal that nobody has heard again for so long is over, as far as is known: the next to ask finds out. */
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

const known = new WeakMap<NatsConnection, StorageHealth>()

/** One of each connection, for all who write over it. */
export const storageHealthOf = (connection: NatsConnection): StorageHealth => {
  const health = known.get(connection) ?? new StorageHealth()
  known.set(connection, health)
  return health
}

/** Runs a write, and keeps in mind, and in the log, whether its storage takes it. */
export const minded = <A, E, R>(
  connection: NatsConnection,
  storage: string,
  write: Effect.Effect<A, E, R>,
): Effect.Effect<A, E, R> => {
  const health = storageHealthOf(connection)
  return write.pipe(
    Effect.tap(() => (health.takes(storage) ? Effect.logInfo(`${storage} takes what is written again`) : Effect.void)),
    Effect.tapError((error) => {
      const refused = refusalOf(storage, error)
      // What is too large for it says nothing of what others write.
      if (refused === null || refused.tooLarge || !health.refuses(refused, performance.now())) return Effect.void
      return Effect.logError(refused.message)
    }),
  )
}

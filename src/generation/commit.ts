// Commit: accepted tokens to the token log, which publishes them too. The write goes on while the next pass computes; the
// one after it waits for it, so the log is in order and at most one iteration behind.
import { Effect, Fiber } from "effect"
import { TokenLog } from "../store/tokenLog.ts"
import type { LogEntry } from "../wire/infer.ts"
import { activity } from "./activity.ts"
import type { GenerateError } from "./errors.ts"
import type { Generation } from "./state.ts"

export const commit = Effect.fnUntraced(function* (generation: Generation, entry: LogEntry) {
  const log = yield* TokenLog
  const { session } = generation.request
  const after = yield* written(generation)
  const append = activity(`commit/${generation.passes++}`, log.append(session, entry, after))
  // Where a cancellation comes in between: what counts as logged is being written, and nothing else is.
  yield* Effect.uninterruptible(
    Effect.map(Effect.forkIn(Effect.interruptible(append), generation.scope), (fiber) => {
      generation.written = fiber
      if (entry._tag === "Tokens") generation.logged.push(...entry.tokens)
      if (entry._tag === "Prompt") generation.prompt.push(...entry.tokens)
    }),
  )
})

/** Waits until everything so far is in the log, and gives the last entry's sequence. */
export const written = ({ written, after }: Generation): Effect.Effect<number, GenerateError> =>
  written === null ? Effect.succeed(after) : Fiber.join(written)

// Commit: accepted tokens to the token log, which publishes them too. The write goes on while the next pass computes; the
// one after it waits for it, so the log is in order and at most one iteration behind.
import { Effect, Fiber } from "effect"
import { TokenLog } from "../store/tokenLog.ts"
import type { LogEntry } from "../wire/infer.ts"
import { activity } from "./activity.ts"
import type { Unplaced } from "./state.ts"

export const commit = Effect.fnUntraced(function* ({ run, journal }: Unplaced, entry: LogEntry) {
  const log = yield* TokenLog
  const after = yield* journal.written
  const append = activity(run.name("commit"), log.append(run.request.session, entry, after))
  // Where a cancellation comes in between: what counts as settled is being written, and nothing else is.
  yield* Effect.uninterruptible(
    Effect.map(Effect.forkIn(Effect.interruptible(append), run.scope), (write) =>
      journal.add(entry, Fiber.join(write)),
    ),
  )
})

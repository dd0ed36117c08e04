// A lost race: a write that expected the log, or the key, as it was before somebody else's write.
import { JetStreamApiCodes, JetStreamApiError } from "@nats-io/jetstream"

/** With more copies than one, most losers hear the second: the write that they have lost to is not applied yet. */
const CONFLICTS: ReadonlySet<number> = new Set([
  JetStreamApiCodes.StreamWrongLastSequence,
  JetStreamApiCodes.StreamWrongLastSequenceUnknown,
])

/** Whether somebody has written in between. What is there now is the leader's to say, and perhaps only in a moment. */
export const isConflict = (error: unknown): boolean => error instanceof JetStreamApiError && CONFLICTS.has(error.code)

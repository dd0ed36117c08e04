// How a session's log is read. Its name is the key: the log of a session whose name is unknown cannot be asked for, since
// a supervisor, and not JetStream, is asked.
import { Schema } from "effect"
import { StorageRefused } from "./errors.ts"
import { LogEntry } from "./infer.ts"
import { Count } from "./scalar.ts"
import { isInbox, isName } from "./subjects.ts"

/** A literal: a wildcard would be the logs of all sessions. */
const SessionName = Schema.String.pipe(Schema.check(Schema.makeFilter(isName)))
const Inbox = Schema.String.pipe(Schema.check(Schema.makeFilter(isInbox)))

/** Look: what the log begins and ends with. Follow: all of it, then what comes, sent to an inbox by JetStream itself. */
export const ReadRequest = Schema.Union([
  Schema.TaggedStruct("Look", { session: SessionName }),
  Schema.TaggedStruct("Follow", {
    session: SessionName,
    after: Count, // sequence in the stream; 0 begins with the log's first entry
    to: Inbox, // subscribed to before; the sending ends soon after the subscription
  }),
]).pipe(Schema.toTaggedUnion("_tag"))
export type ReadRequest = typeof ReadRequest.Type

const Logged = Schema.Struct({ sequence: Count, entry: LogEntry })

export const ReadAnswer = Schema.Union([
  Schema.TaggedStruct("Looked", {
    first: Schema.NullOr(Logged), // null: there is nothing
    last: Schema.NullOr(Logged),
    running: Schema.optionalKey(Schema.Boolean), // false: it has not ended, and no supervisor goes on with it
  }),
  Schema.TaggedStruct("Following", {}),
  /** Also what a reader hears whose session has ended, and whose end the log does not take. */
  Schema.TaggedStruct("NotRead", { reason: Schema.String, refused: Schema.optionalKey(StorageRefused) }),
]).pipe(Schema.toTaggedUnion("_tag"))
export type ReadAnswer = typeof ReadAnswer.Type

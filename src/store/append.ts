// An entry is appended once, however often it has to be sent: the log takes it only after the entry that it is to follow,
// and knows it again by its id.
import { Effect, Schedule, Schema } from "effect"
import { StorageRefused } from "../wire/errors.ts"
import type { LogEntry } from "../wire/infer.ts"

/** A lost acknowledgement is asked for again this often, and so long: a server needs some seconds to restart. */
const AGAIN_MILLIS = 200
const AGAIN = { schedule: Schedule.spaced(AGAIN_MILLIS), times: 150 }

/** Attempts at a storage that refuses: space may come back, as when old logs end. */
const REFUSALS = 50

export class LogFailed extends Schema.TaggedError<LogFailed>()("LogFailed", {
  subject: Schema.String,
  reason: Schema.String,
  refused: Schema.optionalKey(StorageRefused), // left out: there was no answer
}) {
  override get message() {
    return this.refused?.message ?? `the token log ${this.subject} cannot be written: ${this.reason}`
  }
}

/** Another owner has written to the log, or it has lost its tail: it is not as this owner left it. */
export class LogMoved extends Schema.TaggedError<LogMoved>()("LogMoved", { subject: Schema.String }) {
  override get message() {
    return `the token log ${this.subject} has another writer`
  }
}

export interface Append {
  readonly entry: LogEntry
  readonly after: number // sequence of the entry before it; 0: it is the first
  readonly id: string // of this entry alone
  readonly hurried?: boolean // a storage that refuses is not asked again
}

/** A server's side of one log. Both fail where no answer came, whatever became of the question. */
export interface LogPort {
  readonly subject: string
  readonly publish: (append: Append) => Effect.Effect<number | "wrong sequence", LogFailed>
  readonly last: Effect.Effect<{ readonly id: string | undefined; readonly sequence: number } | null, LogFailed>
}

/** Gives the new sequence. A repetition finds the first. */
export const appendTo = (log: LogPort, append: Append): Effect.Effect<number, LogFailed | LogMoved> =>
  Effect.suspend(() => {
    let tries = append.hurried === true ? 0 : REFUSALS
    const worthwhile = (error: LogFailed | LogMoved): boolean => {
      if (error._tag === "LogMoved") return false
      return error.refused === undefined || (!error.refused.tooLarge && tries-- > 0)
    }
    const once = Effect.flatMap(log.publish(append), (written) =>
      written === "wrong sequence" ? lookWhoWroteLast(log, append) : Effect.succeed(written),
    )
    // Nearly every entry is taken at once, and a schedule is more than all the rest.
    return Effect.catch(once, (error) =>
      worthwhile(error)
        ? Effect.delay(Effect.retry(once, { while: worthwhile, ...AGAIN }), AGAIN_MILLIS)
        : Effect.fail(error),
    )
  })

/** A repetition whose first try was stored is a duplicate to some servers and a wrong sequence to others. */
const lookWhoWroteLast = ({ last, subject }: LogPort, { id }: Append) =>
  Effect.flatMap(last, (last) =>
    last?.id === id ? Effect.succeed(last.sequence) : Effect.fail(new LogMoved({ subject })),
  )

// The token log: one JetStream subject a session, on disk before it is acknowledged. It is the session's journal and the
// stream that its user reads, so there is nothing to keep in step with it.
import {
  DeliverPolicy,
  JetStreamApiError,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  StorageType,
} from "@nats-io/jetstream"
import { type NatsConnection, nanos } from "@nats-io/transport-node"
import { Context, Effect, Layer, Result, Schedule, Schema } from "effect"
import { codec } from "../wire/codec.ts"
import type { MalformedMessage } from "../wire/errors.ts"
import { LogEntry } from "../wire/infer.ts"
import { subjectsOf, TOKEN_STREAM, TOKEN_STREAM_SUBJECTS } from "../wire/subjects.ts"
import { Nats } from "./nats.ts"

const entries = codec("token log entry", LogEntry)

/** How long a session can be read after its last token. */
const RETENTION_MILLIS = 3_600_000
const DUPLICATE_WINDOW_MILLIS = 120_000

/** A lost acknowledgement is asked for again this often, and so long: a server needs some seconds to restart. */
const AGAIN = { schedule: Schedule.spaced("200 millis"), times: 150 }

export class LogFailed extends Schema.TaggedError<LogFailed>()("LogFailed", {
  subject: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `the token log ${this.subject} cannot be written: ${this.reason}`
  }
}

/** Somebody else has written to the log: this owner is one of former times. */
export class LogMoved extends Schema.TaggedError<LogMoved>()("LogMoved", { subject: Schema.String }) {
  override get message() {
    return `the token log ${this.subject} has another writer`
  }
}

export class TokenLog extends Context.Service<
  TokenLog,
  {
    /**
     * Appends once, after the entry with sequence `after` (0: as the first), and gives the new sequence. May be repeated:
     * a second time finds the first.
     */
    readonly append: (session: string, entry: LogEntry, after: number) => Effect.Effect<number, LogFailed | LogMoved>
  }
>()("chorus/fabric/TokenLog") {
  static layer(deployment: string) {
    return Layer.effect(this, open(deployment))
  }
}

const open = Effect.fnUntraced(function* (deployment: string) {
  const { connection } = yield* Nats
  const { stream, manager } = yield* Effect.tryPromise({
    try: async () => {
      const manager = await jetstreamManager(connection)
      await addStream(manager)
      return { stream: jetstream(connection), manager }
    },
    catch: (error) => new LogFailed({ subject: TOKEN_STREAM_SUBJECTS, reason: reasonOf(error) }),
  })
  const subjects = subjectsOf(deployment)
  return TokenLog.of({
    append: (session, entry, after) => {
      const subject = subjects.tokens(session)
      const id = `${session}.${entry.epoch}.${entry._tag}.${entry.at}`
      return Effect.tryPromise({
        try: () => appendOnce(stream, manager, { subject, message: entries.encode(entry), after, id }),
        catch: (error) => (error instanceof LogMoved ? error : new LogFailed({ subject, reason: reasonOf(error) })),
      }).pipe(Effect.retry({ while: ({ _tag }) => _tag === "LogFailed", ...AGAIN }))
    },
  })
})

const addStream = async (manager: JetStreamManager): Promise<void> => {
  try {
    await manager.streams.add({
      name: TOKEN_STREAM,
      subjects: [TOKEN_STREAM_SUBJECTS],
      storage: StorageType.File,
      allow_direct: true,
      max_age: nanos(RETENTION_MILLIS),
      duplicate_window: nanos(DUPLICATE_WINDOW_MILLIS),
    })
  } catch (error) {
    const theirs = error instanceof JetStreamApiError && error.code === 10058 // an operator's own settings stand
    if (!theirs) throw error
  }
}

interface Append {
  readonly subject: string
  readonly message: Uint8Array
  readonly after: number
  readonly id: string
}

/** A repetition whose first try was stored is a duplicate to some servers and a wrong sequence to others: look who wrote last. */
const appendOnce = async (
  stream: JetStreamClient,
  manager: JetStreamManager,
  { subject, message, after, id }: Append,
): Promise<number> => {
  try {
    const { seq } = await stream.publish(subject, message, { msgID: id, expect: { lastSubjectSequence: after } })
    return seq
  } catch (error) {
    if (!(error instanceof JetStreamApiError) || error.code !== 10071) throw error
    const last = await manager.direct.getMessage(TOKEN_STREAM, { last_by_subj: subject })
    if (last?.header.get("Nats-Msg-Id") === id) return last.seq
    throw new LogMoved({ subject })
  }
}

/** An entry, and its sequence in the log. */
export interface Logged {
  readonly entry: LogEntry
  readonly sequence: number
}

/** A session's log from its first entry, then live, until its end. Ending the iteration ends the subscription. */
export async function* follow(connection: NatsConnection, subject: string): AsyncGenerator<Logged, void, void> {
  const consumer = await jetstream(connection).consumers.get(TOKEN_STREAM, {
    filter_subjects: subject,
    deliver_policy: DeliverPolicy.All,
  })
  const messages = await consumer.consume()
  try {
    for await (const { data, seq } of messages) {
      const entry: Result.Result<LogEntry, MalformedMessage> = entries.decode(data)
      if (Result.isFailure(entry)) throw entry.failure
      yield { entry: entry.success, sequence: seq }
      if (entry.success._tag === "End") return
    }
  } finally {
    messages.stop()
  }
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

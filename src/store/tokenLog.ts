// The token log: one JetStream subject a session, on disk before it is acknowledged. It is the session's journal and the
// stream that its user reads, so there is nothing to keep in step with it.
import { randomUUID } from "node:crypto"
import { Context, Effect, Layer, Result, Schedule } from "effect"
import { codec } from "../wire/codec.ts"
import type { Deployment } from "../wire/deployment.ts"
import { type MalformedMessage, StorageRefused } from "../wire/errors.ts"
import { LogEntry } from "../wire/infer.ts"
import { subjectsOf, TOKEN_STREAM, TOKEN_STREAM_SUBJECTS } from "../wire/subjects.ts"
import { type Append, appendTo, LogFailed, type LogMoved, type LogPort } from "./append.ts"
import { type LogStream, Storage, type StorageError, type Stored } from "./storage.ts"
import { minded } from "./storageHealth.ts"
import { keepUp, remaking } from "./upkeep.ts"

const entries = codec("token log entry", LogEntry)

export class TokenLog extends Context.Service<
  TokenLog,
  {
    /** Appends once, after the entry with sequence `after` (0: as the first), and gives the new sequence. */
    readonly append: (
      session: string,
      entry: LogEntry,
      after: number,
      options?: AppendOptions,
    ) => Effect.Effect<number, LogFailed | LogMoved>
    /** All that it holds now, in order. */
    readonly read: (session: string) => Effect.Effect<ReadonlyArray<Logged>, LogFailed>
    /** Milliseconds since it began, by the servers' clocks: those of two supervisors may be an hour apart. */
    readonly age: (session: string) => Effect.Effect<number, LogFailed>
  }
>()("chorus/store/TokenLog") {
  static layer(options: TokenLogOptions) {
    return Layer.effect(this, open(options))
  }
}

export type AppendOptions = Pick<Append, "hurried">

export type TokenLogOptions = Pick<Deployment, "name" | "retentionMillis">

/** One stream for all deployments of a server: the retention that was asked for last holds for all of them. */
const streamOf = ({ retentionMillis = null }: { readonly retentionMillis?: number | null | undefined }): LogStream => ({
  ...{ _tag: "Log", stream: TOKEN_STREAM, subjects: TOKEN_STREAM_SUBJECTS, retentionMillis },
})

const open = Effect.fnUntraced(function* (options: TokenLogOptions) {
  const storage = yield* Storage
  const make = storage.make(streamOf(options))
  yield* Effect.mapError(make, failureOf(TOKEN_STREAM_SUBJECTS))
  const subjects = subjectsOf(options.name)
  return TokenLog.of({
    append: (session, entry, after, options) =>
      Effect.suspend(() => {
        const id = randomUUID() // of this append, however often it is tried; a healed log has the same entry twice
        return appendTo(portOf(storage, make, subjects.tokens(session)), { ...options, entry, after, id })
      }),
    read: (session) => {
      const subject = subjects.tokens(session)
      return Effect.mapError(readAll(storage, subject), failureOf(subject))
    },
    age: (session) => {
      const subject = subjects.tokens(session)
      return Effect.mapError(untilAnswered(storage.age(TOKEN_STREAM, subject)), failureOf(subject))
    },
  })
})

/** Looks after the stream of all logs. */
export const keepUpTokens = <R>(options: TokenLogOptions, remade: Effect.Effect<void, never, R>) =>
  keepUp({ stream: streamOf(options), remade })

const failureOf =
  (subject: string) =>
  (error: StorageError | MalformedMessage): LogFailed =>
    new LogFailed({ subject, reason: error.message, ...(error instanceof StorageRefused ? { refused: error } : {}) })

const portOf = (storage: Storage["Service"], make: Effect.Effect<void, StorageError>, subject: string): LogPort => ({
  subject,
  publish: ({ entry, after, id }) =>
    storage.append({ stream: TOKEN_STREAM, subject, data: entries.encode(entry), after, id }).pipe(
      Effect.map((sequence) => sequence ?? "wrong sequence"),
      // In a stream that was made again the log begins anew, and its owner hears of that.
      (written) => minded(storage.health, TOKEN_STREAM, remaking(make, written)),
      Effect.mapError(failureOf(subject)),
    ),
  // The leader's word: another server may not have what was acknowledged just now.
  last: storage.newest(TOKEN_STREAM, subject).pipe(Effect.mapError(failureOf(subject))),
})

/** How long a question is asked again: servers may be away for a while. */
const AGAIN = Schedule.spaced("100 millis")
const PATIENCE_MILLIS = 60_000
/** A storage that refuses goes on refusing until an operator acts, so it is asked less often. */
const REFUSED_MILLIS = 10_000

const untilAnswered = <A>(question: Effect.Effect<A, StorageError>): Effect.Effect<A, StorageError> =>
  Effect.suspend(() => {
    const began = performance.now()
    const patience = (error: StorageError) => (error instanceof StorageRefused ? REFUSED_MILLIS : PATIENCE_MILLIS)
    return Effect.retry(question, {
      schedule: AGAIN,
      while: (error) => performance.now() - began < patience(error),
    })
  })

/** An entry, and its sequence in the stream. */
export interface Logged {
  readonly entry: LogEntry
  readonly sequence: number
}

const readAll = Effect.fnUntraced(function* ({ read }: Storage["Service"], subject: string) {
  const all: Array<Logged> = []
  for (;;) {
    const from = (all.at(-1)?.sequence ?? 0) + 1
    const stored = yield* untilAnswered(read(TOKEN_STREAM, subject, from))
    if (stored.length === 0) return all
    for (const one of stored) all.push(yield* loggedOf(one))
  }
})

const loggedOf = ({ data, sequence }: Stored): Effect.Effect<Logged, MalformedMessage> =>
  Effect.map(Effect.fromResult(entries.decode(data)), (entry) => ({ entry, sequence }))

/** A log's first or last entry; null where there is none, or none any more. */
export const edgeOfLog = (
  { edge }: Storage["Service"],
  subject: string,
  which: "first" | "last",
): Effect.Effect<Logged | null, StorageError | MalformedMessage> =>
  Effect.flatMap(edge(TOKEN_STREAM, subject, which), (stored) =>
    stored === null ? Effect.succeed(null) : loggedOf(stored),
  )

export const entryOf = (message: Uint8Array): LogEntry => {
  const entry: Result.Result<LogEntry, MalformedMessage> = entries.decode(message)
  if (Result.isFailure(entry)) throw entry.failure
  return entry.success
}

// The token log: one JetStream subject a session, on disk before it is acknowledged. It is the session's journal and the
// stream that its user reads, so there is nothing to keep in step with it.
import { randomUUID } from "node:crypto"
import {
  JetStreamApiError,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  StorageType,
  type StreamConfig,
} from "@nats-io/jetstream"
import { type NatsConnection, nanos } from "@nats-io/transport-node"
import { Context, Effect, Layer, Result } from "effect"
import { answered, Nats, untilAnswered } from "../bus/nats.ts"
import { codec } from "../wire/codec.ts"
import type { Deployment } from "../wire/deployment.ts"
import type { MalformedMessage } from "../wire/errors.ts"
import { LogEntry } from "../wire/infer.ts"
import { subjectsOf, TOKEN_STREAM, TOKEN_STREAM_SUBJECTS } from "../wire/subjects.ts"
import { type Append, appendTo, LogFailed, type LogMoved, type LogPort } from "./append.ts"
import { copiesAt } from "./copies.ts"
import { isConflict, isMissing, refusalOf } from "./refusal.ts"
import { minded } from "./storageHealth.ts"
import { keepUp, remaking } from "./upkeep.ts"

const entries = codec("token log entry", LogEntry)

/** How long a session's tokens can be read, unless a deployment says otherwise. */
const RETENTION_MILLIS = 3_600_000
const DUPLICATE_WINDOW_MILLIS = 120_000

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

const open = Effect.fnUntraced(function* ({ name, retentionMillis }: TokenLogOptions) {
  const { connection } = yield* Nats
  const { stream, manager } = yield* Effect.tryPromise({
    try: async () => {
      const manager = await jetstreamManager(connection)
      await addStream(manager, retentionMillis, copiesAt(connection))
      return { stream: jetstream(connection), manager }
    },
    catch: (error) => failureOf(TOKEN_STREAM_SUBJECTS, error),
  })
  const server: LogServer = {
    ...{ connection, stream, manager },
    make: () => addStream(manager, retentionMillis, copiesAt(connection)),
  }
  const subjects = subjectsOf(name)
  return TokenLog.of({
    append: (session, entry, after, options) =>
      Effect.suspend(() => {
        const id = randomUUID() // of this append, however often it is tried; a healed log has the same entry twice
        return appendTo(portOf(server, subjects.tokens(session)), { ...options, entry, after, id })
      }),
    read: (session) => {
      const subject = subjects.tokens(session)
      return Effect.tryPromise({
        try: () => readNow(connection, subject),
        catch: (error) => failureOf(subject, error),
      })
    },
    age: (session) => {
      const subject = subjects.tokens(session)
      return Effect.tryPromise({
        try: () => untilAnswered(connection, () => ageNow(manager, subject)),
        catch: (error) => failureOf(subject, error),
      })
    },
  })
})

/** Looks after the stream of all logs. */
export const keepUpTokens = Effect.fnUntraced(function* <R>(
  { retentionMillis }: TokenLogOptions,
  remade: Effect.Effect<void, never, R>,
) {
  const { connection } = yield* Nats
  const manager = yield* Effect.promise(() => jetstreamManager(connection, { checkAPI: false }))
  const make = () => addStream(manager, retentionMillis, copiesAt(connection))
  yield* keepUp({ stream: TOKEN_STREAM, make, remade })
})

const failureOf = (subject: string, error: unknown): LogFailed => {
  const refused = refusalOf(TOKEN_STREAM, error)
  return new LogFailed({ subject, reason: reasonOf(error), ...(refused === null ? {} : { refused }) })
}

/** Whose settings a stream has: what another has made is left as it is. */
const OWNED = { "chorus.owner": "chorus" }

/** One stream for all deployments of a server: the retention that was asked for last is everybody's. */
const addStream = async (
  manager: JetStreamManager,
  retentionMillis: number | undefined,
  num_replicas: number,
): Promise<void> => {
  const known = await streamInfo(manager)
  const max_age = nanos(retentionMillis ?? RETENTION_MILLIS)
  const kept = { max_age, duplicate_window: Math.min(max_age, nanos(DUPLICATE_WINDOW_MILLIS)) }
  if (known === undefined) return create(manager, { ...kept, num_replicas })
  const ours = known.config.metadata?.["chorus.owner"] === OWNED["chorus.owner"]
  if (ours && retentionMillis !== undefined && known.config.max_age !== max_age) {
    await manager.streams.update(TOKEN_STREAM, kept)
  }
}

/** Undefined where there is no such stream. */
const streamInfo = (manager: JetStreamManager) =>
  manager.streams.info(TOKEN_STREAM).catch((error: unknown) => {
    if (error instanceof JetStreamApiError && error.code === 10059) return undefined
    throw error
  })

type Kept = Pick<StreamConfig, "max_age" | "duplicate_window" | "num_replicas">

const create = async (manager: JetStreamManager, kept: Kept): Promise<void> => {
  try {
    await manager.streams.add({
      name: TOKEN_STREAM,
      subjects: [TOKEN_STREAM_SUBJECTS],
      storage: StorageType.File,
      allow_direct: true,
      ...kept,
      metadata: OWNED,
    })
  } catch (error) {
    const made = error instanceof JetStreamApiError && error.code === 10058 // by another supervisor, at the same time
    if (!made) throw error
  }
}

interface LogServer {
  readonly connection: NatsConnection
  readonly stream: JetStreamClient
  readonly manager: JetStreamManager
  readonly make: () => Promise<void>
}

const portOf = ({ connection, stream, manager, make }: LogServer, subject: string): LogPort => {
  const ask = <A>(question: () => Promise<A>) =>
    Effect.tryPromise({ try: () => answered(connection, question()), catch: (error) => error })
  const failing = <A>(asked: Effect.Effect<A, unknown>) => Effect.mapError(asked, (error) => failureOf(subject, error))
  return {
    subject,
    publish: ({ entry, after, id }) =>
      ask(async () => {
        try {
          const expect = { lastSubjectSequence: after }
          return (await stream.publish(subject, entries.encode(entry), { msgID: id, expect })).seq
        } catch (error) {
          if (isConflict(error)) return "wrong sequence"
          throw error
        }
      }).pipe(
        // In a stream that was made again the log begins anew, and its owner hears of that.
        (written) => minded(connection, TOKEN_STREAM, remaking(make, written)),
        failing,
      ),
    last: failing(
      ask(async () => {
        // The leader's word: another server may not have what was acknowledged just now.
        const last = await manager.streams.getMessage(TOKEN_STREAM, { last_by_subj: subject })
        return last === null ? null : { id: last.header.get("Nats-Msg-Id"), sequence: last.seq }
      }),
    ),
  }
}

/** An entry, and its sequence in the stream. */
export interface Logged {
  readonly entry: LogEntry
  readonly sequence: number
}

const READ_ENTRIES = 256

/** The client's word for a 404. */
const NOTHING = "message not found"

const readNow = async (connection: NatsConnection, subject: string): Promise<ReadonlyArray<Logged>> => {
  const entries: Array<Logged> = []
  for (;;) {
    const seq = (entries.at(-1)?.sequence ?? 0) + 1
    const read = await untilAnswered(connection, () => readSome(connection, subject, seq))
    if (read.length === 0) return entries
    entries.push(...read)
  }
}

const readSome = async (connection: NatsConnection, subject: string, seq: number): Promise<ReadonlyArray<Logged>> => {
  const manager = await jetstreamManager(connection, { checkAPI: false })
  const options = { seq, next_by_subj: subject, batch: READ_ENTRIES }
  const read: Array<Logged> = []
  try {
    const messages = await manager.direct.getBatch(TOKEN_STREAM, options)
    for await (const message of messages) read.push({ entry: entryOf(message.data), sequence: message.seq })
  } catch (error) {
    if (error instanceof Error && error.message === NOTHING) return read
    // Nobody answers for a stream that is gone; the server itself says whether JetStream is off.
    const why: unknown = isMissing(error)
      ? await streamInfo(manager).then(
          () => error,
          (off: unknown) => off,
        )
      : error
    throw refusalOf(TOKEN_STREAM, why) ?? why
  }
  return read
}

/**
 * A log's first or last entry; null where there is none, or none any more. Any server may answer, and one that was away knows
 * of no log that began meanwhile: that there is none is the leader's to say.
 */
export const entryAt = async (
  manager: JetStreamManager,
  subject: string,
  which: "first" | "last",
): Promise<Logged | null> => {
  const query = which === "last" ? { last_by_subj: subject } : { seq: 1, next_by_subj: subject }
  const read = async () =>
    (await manager.direct.getMessage(TOKEN_STREAM, query)) ?? (await manager.streams.getMessage(TOKEN_STREAM, query))
  const message = await read().catch(async (error: unknown) => {
    // Nobody answers for the stream: it is not there yet, or there is none, and so no session.
    if ((await streamInfo(manager)) === undefined) return null
    throw error
  })
  return message === null ? null : { entry: entryOf(message.data), sequence: message.seq }
}

const ageNow = async (manager: JetStreamManager, subject: string): Promise<number> => {
  const [first, { ts }] = await Promise.all([
    manager.direct.getMessage(TOKEN_STREAM, { seq: 1, next_by_subj: subject }),
    manager.streams.info(TOKEN_STREAM),
  ])
  return first === null || ts === undefined ? 0 : Math.max(0, Date.parse(ts) - first.time.getTime())
}

export const entryOf = (message: Uint8Array): LogEntry => {
  const entry: Result.Result<LogEntry, MalformedMessage> = entries.decode(message)
  if (Result.isFailure(entry)) throw entry.failure
  return entry.success
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

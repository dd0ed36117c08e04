// The storage over NATS: JetStream's streams. What an error of it means, refusal.ts says.
import { randomUUID } from "node:crypto"
import {
  AckPolicy,
  DeliverPolicy,
  JetStreamApiError,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  StorageType,
  type StoredMsg,
} from "@nats-io/jetstream"
import { Kvm } from "@nats-io/kv"
import { headers, type MsgHdrs, type NatsConnection, nanos } from "@nats-io/transport-node"
import { Effect, Layer, type Scope, Stream } from "effect"
import { answered } from "../bus/connection.ts"
import { inboxOf } from "../bus/dial.ts"
import { Nats, type NatsOptions } from "../bus/nats.ts"
import { isConflict, isMissing, storageErrorOf } from "./refusal.ts"
import {
  type Appending,
  type BucketStream,
  type LogStream,
  Storage,
  type StorageError,
  type Stored,
  type StoredChanges,
} from "./storage.ts"
import { StorageHealth } from "./storageHealth.ts"

/** The bus and the storage of a NATS server. */
export const onNats = (options: NatsOptions) => Layer.provideMerge(overJetStream, Nats.layer(options))

/** Messages that are read at once. */
const READ_MESSAGES = 256

const overJetStream = Layer.effect(
  Storage,
  Effect.gen(function* () {
    const { connection } = yield* Nats
    const manager = yield* Effect.promise(() => jetstreamManager(connection, { checkAPI: false }))
    const stream = jetstream(connection)
    const ask = <A>(of: string, use: () => Promise<A>): Effect.Effect<A, StorageError> =>
      Effect.tryPromise({
        try: () => answered(connection, use()),
        catch: (error) => storageErrorOf(of, error),
      })
    return Storage.of({
      health: new StorageHealth(),
      make: (wanted) =>
        ask(wanted.stream, () =>
          wanted._tag === "Log" ? makeLog(connection, manager, wanted) : makeBucket(connection, wanted),
        ),
      born: (name) => ask(name, async () => (await manager.streams.info(name)).created),
      append: (message) =>
        ask(message.stream, async () => {
          const { subject, data, after, id, removes } = message
          const options = {
            ...(id === undefined ? {} : { msgID: id }),
            ...(after === undefined ? {} : { expect: { lastSubjectSequence: after } }),
            ...(removes === undefined ? {} : { headers: markerOf(removes) }),
          }
          try {
            return (await stream.publish(subject, data, options)).seq
          } catch (error) {
            if (isConflict(error)) return null
            throw error
          }
        }),
      newest: (name, subject) =>
        ask(name, async () => storedOf(await manager.streams.getMessage(name, { last_by_subj: subject }))),
      read: (name, subject, from) => ask(name, () => readSome(manager, name, subject, from)),
      edge: (name, subject, which) => ask(name, async () => storedOf(await edgeOf(manager, name, subject, which))),
      age: (name, subject) => ask(name, () => ageOf(manager, name, subject)),
      changes: (name, subjects) => changesOf(connection, manager, name, subjects),
      send: (name, subject, after, inbox) => ask(name, () => sendTo(manager, name, subject, after, inbox)),
    })
  }),
)

// -- streams ----------------------------------------------------------------------------------------------------------

/** A JetStream cluster has three servers or more: losing one loses nothing there. */
const IN_A_CLUSTER = 3
const copiesAt = ({ info }: NatsConnection): number => (info?.cluster === undefined ? 1 : IN_A_CLUSTER)

/** "stream name already in use with a different configuration" */
const OTHER_SETTINGS = 10058
const NOT_FOUND = 10059

const isCode = (error: unknown, code: number): boolean => error instanceof JetStreamApiError && error.code === code

const makeBucket = async (connection: NatsConnection, wanted: BucketStream): Promise<void> => {
  const { bucket, keepMillis, markerMillis } = wanted
  const buckets = new Kvm(connection)
  try {
    await buckets.create(bucket, {
      ...{ history: 1, replicas: copiesAt(connection) },
      ...(keepMillis === undefined ? {} : { ttl: keepMillis }),
      ...(markerMillis === undefined ? {} : { markerTTL: markerMillis }),
    })
  } catch (error) {
    if (!isCode(error, OTHER_SETTINGS)) throw error
    await buckets.open(bucket)
  }
}

/** Whose settings a stream has: what another has made is left as it is. */
const OWNED = { "chorus.owner": "chorus" }

/** How long a log can be read, unless a deployment says otherwise: what was asked for last holds for all. */
const RETENTION_MILLIS = 3_600_000
const DUPLICATE_WINDOW_MILLIS = 120_000

const makeLog = async (
  connection: NatsConnection,
  manager: JetStreamManager,
  { stream: name, subjects, retentionMillis }: LogStream,
): Promise<void> => {
  const known = await streamInfo(manager, name)
  const max_age = nanos(retentionMillis ?? RETENTION_MILLIS)
  const kept = { max_age, duplicate_window: Math.min(max_age, nanos(DUPLICATE_WINDOW_MILLIS)) }
  if (known !== undefined) {
    const ours = known.config.metadata?.["chorus.owner"] === OWNED["chorus.owner"]
    if (ours && retentionMillis !== null && known.config.max_age !== max_age) await manager.streams.update(name, kept)
    return
  }
  try {
    await manager.streams.add({
      ...{ name, subjects: [subjects], storage: StorageType.File, allow_direct: true, metadata: OWNED },
      ...{ ...kept, num_replicas: copiesAt(connection) },
    })
  } catch (error) {
    if (!isCode(error, OTHER_SETTINGS)) throw error // made by another supervisor, at the same time
  }
}

/** Undefined where there is no such stream. */
const streamInfo = (manager: JetStreamManager, name: string) =>
  manager.streams.info(name).catch((error: unknown) => {
    if (isCode(error, NOT_FOUND)) return undefined
    throw error
  })

// -- messages ---------------------------------------------------------------------------------------------------------

const ID = "Nats-Msg-Id"

const storedOf = (message: StoredMsg | null): Stored | null => {
  if (message === null) return null
  const { subject, seq: sequence, data, header } = message
  return { subject, sequence, data, id: header.get(ID), removed: isMarker(header) }
}

const isMarker = (header: MsgHdrs | undefined): boolean => {
  const operation = header?.get("KV-Operation")
  return operation === "DEL" || operation === "PURGE" || header?.has("Nats-Marker-Reason") === true
}

/** As the key-value protocol has it: github.com/nats-io/nats-architecture-and-design, ADR-8. */
const markerOf = ({ markerMillis }: Exclude<Appending["removes"], undefined>): MsgHdrs => {
  const marker = headers()
  marker.set("KV-Operation", markerMillis === undefined ? "DEL" : "PURGE")
  if (markerMillis === undefined) return marker
  marker.set("Nats-Rollup", "sub")
  marker.set("Nats-TTL", `${Math.ceil(markerMillis / 1000)}s`)
  return marker
}

/** The client's word for a 404. */
const NOTHING = "message not found"

const readSome = async (
  manager: JetStreamManager,
  name: string,
  subject: string,
  from: number,
): Promise<ReadonlyArray<Stored>> => {
  const read: Array<Stored> = []
  try {
    const messages = await manager.direct.getBatch(name, { seq: from, next_by_subj: subject, batch: READ_MESSAGES })
    for await (const message of messages) {
      const stored = storedOf(message)
      if (stored !== null) read.push(stored)
    }
  } catch (error) {
    if (error instanceof Error && error.message === NOTHING) return read
    if (!isMissing(error)) throw error
    await streamInfo(manager, name) // a stream that is gone does not answer; the server says whether JetStream is off
    throw error
  }
  return read
}

/**
 * Any server may answer, and one that was away knows of no subject that began meanwhile: that there is none is the leader's
 * to say.
 */
const edgeOf = async (
  manager: JetStreamManager,
  name: string,
  subject: string,
  which: "first" | "last",
): Promise<StoredMsg | null> => {
  const query = which === "last" ? { last_by_subj: subject } : { seq: 1, next_by_subj: subject }
  try {
    return (await manager.direct.getMessage(name, query)) ?? (await manager.streams.getMessage(name, query))
  } catch (error) {
    if ((await streamInfo(manager, name)) === undefined) return null
    throw error
  }
}

const ageOf = async (manager: JetStreamManager, name: string, subject: string): Promise<number> => {
  const [first, { ts }] = await Promise.all([
    manager.direct.getMessage(name, { seq: 1, next_by_subj: subject }),
    manager.streams.info(name),
  ])
  return first === null || ts === undefined ? 0 : Math.max(0, Date.parse(ts) - first.time.getTime())
}

// -- consumers --------------------------------------------------------------------------------------------------------

/** The server removes a consumer that has had no listener for this long. */
const LEFT_MILLIS = 5_000
const READER_LEFT_MILLIS = 1_000

/** When two have not come, whatever else would come is thought lost. */
const HEARTBEAT_MILLIS = 5_000

/**
 * The client library's own `watch` and `keys` of a bucket leave their consumer on the server for five minutes, so each
 * process that is killed, and each list of keys, would have its ghosts there.
 */
const changesOf = (
  connection: NatsConnection,
  manager: JetStreamManager,
  name: string,
  subjects: ReadonlyArray<string>,
): Effect.Effect<StoredChanges, StorageError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: () => answered(connection, consume(connection, manager, name, subjects)),
      catch: (error) => storageErrorOf(name, error),
    }),
    ({ stop }) => Effect.sync(stop),
  )

const consume = async (
  connection: NatsConnection,
  { consumers }: JetStreamManager,
  stream: string,
  subjects: ReadonlyArray<string>,
) => {
  const { name, num_pending: kept } = await consumers.add(stream, {
    ...{ name: randomUUID(), deliver_subject: inboxOf(connection), ack_policy: AckPolicy.None },
    ...{ deliver_policy: DeliverPolicy.LastPerSubject, ...filterOf(subjects) },
    ...{ idle_heartbeat: nanos(HEARTBEAT_MILLIS), inactive_threshold: nanos(LEFT_MILLIS), flow_control: true },
    ...{ mem_storage: true, num_replicas: 1 },
  })
  const consumer = await jetstream(connection).consumers.getPushConsumer(stream, name)
  const messages = await consumer.consume({ abort_on_missing_resource: true })
  const watchHeartbeats = async (): Promise<void> => {
    for await (const { type } of messages.status()) if (type === "heartbeats_missed") messages.stop()
  }
  void watchHeartbeats()
  let begun = false
  async function* inOrder(): AsyncGenerator<Stored, void, void> {
    let delivered = 0
    begun = true
    for await (const { info, subject, seq: sequence, data, headers } of messages) {
      if (info.deliverySequence !== ++delivered) return
      yield { subject, sequence, data, id: headers?.get(ID), removed: isMarker(headers) }
    }
  }
  const stop = (): void => {
    messages.stop()
    if (!begun) void inOrder().next() // its inbox is given up only by its reader
    if (!connection.isClosed()) consumers.delete(stream, name).catch(() => {}) // it is gone, or goes by itself
  }
  return { kept, all: Stream.fromAsyncIterable(inOrder(), (error) => storageErrorOf(stream, error)), stop }
}

/** Servers before 2.10 know but one filter. */
const filterOf = (subjects: ReadonlyArray<string>) =>
  subjects.length === 1 ? { filter_subject: `${subjects[0]}` } : { filter_subjects: [...subjects] }

const sendTo = async (
  { consumers }: JetStreamManager,
  stream: string,
  subject: string,
  after: number,
  inbox: string,
): Promise<void> => {
  await consumers.add(stream, {
    ...{ name: randomUUID(), filter_subject: subject, deliver_subject: inbox, ack_policy: AckPolicy.None },
    ...{ inactive_threshold: nanos(READER_LEFT_MILLIS), mem_storage: true, num_replicas: 1 },
    ...(after === 0
      ? { deliver_policy: DeliverPolicy.All }
      : { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: after + 1 }),
  })
}

// A NATS key-value bucket whose values are JSON of one schema, so that `nats kv get` reads well. Writers that share a key
// write by revision; readers follow the whole bucket.
import { JetStreamApiError, jetstream, jetstreamManager } from "@nats-io/jetstream"
import { type KV, Kvm, type KvOptions } from "@nats-io/kv"
import type { NatsConnection } from "@nats-io/transport-node"
import { Effect, Result, Schedule, Schema, type Scope, Stream, SubscriptionRef } from "effect"
import { Nats } from "../bus/nats.ts"
import { type Change, changesOf, operationOf } from "./bucketChanges.ts"
import { copiesAt } from "./copies.ts"
import { isConflict, refusalOf } from "./refusal.ts"
import { minded } from "./storageHealth.ts"
import { keepUp, remaking } from "./upkeep.ts"

export class BucketFailed extends Schema.TaggedError<BucketFailed>()("BucketFailed", {
  bucket: Schema.String,
  key: Schema.String,
  reason: Schema.String,
  tooLarge: Schema.Boolean, // the value, for a message of this server: it is never taken
}) {
  override get message() {
    return `the NATS bucket ${this.bucket} cannot be used (${this.key}): ${this.reason}`
  }
}

export interface Entry<A> {
  readonly value: A
  readonly revision: number
}

export type Entries<A> = ReadonlyMap<string, Entry<A>>

export interface Bucket<A> {
  readonly get: (key: string) => Effect.Effect<Entry<A> | null, BucketFailed>
  readonly put: (key: string, value: A) => Effect.Effect<number, BucketFailed>
  /** Writes over exactly this revision, 0 where there is nothing yet; null when somebody was quicker. */
  readonly replace: (key: string, value: A, revision: number) => Effect.Effect<number | null, BucketFailed>
  readonly remove: (key: string) => Effect.Effect<void, BucketFailed>
  /**
   * All that is in it, as it changes. It is loaded when this ends; values that are not of the schema are left out. Where the
   * bucket is lost and made again, what it held counts until something is written in its place.
   */
  readonly follow: Effect.Effect<SubscriptionRef.SubscriptionRef<Entries<A>>, BucketFailed, Scope.Scope>
  /** Likewise, and puts back what was lost with a bucket. */
  readonly uphold: Bucket<A>["follow"]
}

const WATCH_AGAIN_MILLIS = 250
const OPEN_AGAIN = { schedule: Schedule.spaced("250 millis"), times: 12 }

/** "stream name already in use with a different configuration" */
const OTHER_SETTINGS = 10058

export const openBucket = Effect.fnUntraced(function* <A>(name: string, schema: Schema.Codec<A, unknown>) {
  const nats = yield* Nats
  const { connection } = nats
  const stream = `KV_${name}`
  const make = () => openKv(connection, name)
  const ask = <B>(use: () => Promise<B>) => remaking(make, Effect.tryPromise({ try: use, catch: (error) => error }))
  const failing = <B>(key: string, asked: Effect.Effect<B, unknown>) =>
    Effect.mapError(asked, (error) => {
      const refused = refusalOf(stream, error)
      const reason = refused?.reason ?? (error instanceof Error ? error.message : String(error))
      return new BucketFailed({ bucket: name, key, reason, tooLarge: refused?.tooLarge === true })
    })
  const attempt = <B>(key: string, use: () => Promise<B>) => failing(key, ask(use))
  const write = <B>(key: string, use: () => Promise<B>) => failing(key, minded(connection, stream, ask(use)))
  // Of two who make it at once in a cluster, one may be refused for a moment.
  const kv = yield* attempt("all of it", make).pipe(Effect.retry(OPEN_AGAIN))
  const encode = Schema.encodeSync(schema)
  const decodeJson = Schema.decodeUnknownResult(Schema.fromJsonString(schema))
  const text = (value: A) => JSON.stringify(encode(value), null, 2)
  const understood = (key: string, value: string): Effect.Effect<A | null> => {
    const decoded = decodeJson(value)
    if (Result.isSuccess(decoded)) return Effect.succeed(decoded.success)
    const reason = decoded.failure.message.replaceAll(/\s*\n\s*/g, " ")
    return Effect.as(Effect.logWarning(`${key} in ${name} is left out: ${reason}`), null)
  }

  const get = Effect.fnUntraced(function* (key: string) {
    const entry = yield* attempt(key, () => newest(connection, name, key))
    if (entry === null || entry.operation !== "PUT") return null
    const value = yield* understood(key, entry.string())
    return value === null ? null : { value, revision: entry.revision }
  })

  const replace = (key: string, value: A, revision: number) =>
    write(key, () => writeOver(connection, { bucket: name, key }, text(value), revision))

  const load = Effect.gen(function* () {
    const keys = yield* attempt("all keys", () => keysOf(connection, name))
    const loaded = yield* Effect.forEach(keys, (key) => Effect.map(get(key), (entry) => [key, entry] as const))
    return new Map(loaded.flatMap(([key, entry]) => (entry === null ? [] : [[key, entry] as const])))
  })

  /** What is written meanwhile stands. */
  const putBack = (lost: Entries<A>) =>
    Effect.forEach(lost, ([key, { value }]) => replace(key, value, 0), { discard: true }).pipe(
      Effect.tap(() => Effect.logWarning(`${lost.size} keys were put back into ${name}`)),
      Effect.catch((error) => Effect.logWarning(error.message)),
      Effect.when(Effect.sync(() => lost.size > 0)),
    )

  const following = Effect.fnUntraced(function* (upheld: boolean) {
    const ref = yield* SubscriptionRef.make<Entries<A>>(yield* load)
    const lives = yield* SubscriptionRef.make(0)
    const change = (key: string, entry: Entry<A> | null) =>
      SubscriptionRef.update(ref, (known) => {
        const next = new Map(known)
        if (entry === null) next.delete(key)
        else next.set(key, entry)
        return next
      })
    const hear = (entry: Change) =>
      entry.operation === "PUT"
        ? Effect.flatMap(understood(entry.key, entry.string()), (value) =>
            change(entry.key, value === null ? null : { value, revision: entry.revision }),
          )
        : change(entry.key, null)
    const remade = Effect.gen(function* () {
      const lost = new Map(
        [...(yield* SubscriptionRef.get(ref))].map(([key, { value }]) => [key, { value, revision: 0 }]),
      )
      if (upheld) yield* putBack(lost)
      const loaded = yield* Effect.catch(load, () => Effect.succeed(new Map<string, Entry<A>>()))
      yield* SubscriptionRef.set(ref, new Map([...lost, ...loaded]))
      yield* SubscriptionRef.update(lives, (life) => life + 1)
    })
    // What an earlier bucket held is kept through each reload: only a word of this one takes it away.
    const renewed = Effect.flatMap(load, (loaded) =>
      SubscriptionRef.update(
        ref,
        (known) => new Map([...[...known].filter(([, { revision }]) => revision === 0), ...loaded]),
      ),
    )
    const look = yield* Effect.provideService(keepUp({ stream, make, remade }), Nats, nats)
    yield* Effect.forkScoped(
      watching(nats, { bucket: name, key: ">", lives }, hear, Effect.ignore(Effect.andThen(look, renewed))),
    )
    return ref
  })

  const bucket: Bucket<A> = {
    get,
    put: (key, value) => write(key, () => kv.put(key, text(value))),
    replace,
    remove: (key) => write(key, () => kv.delete(key)),
    follow: following(false),
    uphold: following(true),
  }
  return bucket
})

export interface EntryKey {
  readonly bucket: string
  readonly key: string
}

/** Writes over exactly this revision, 0 where there is nothing yet; null when somebody was quicker. */
export const writeOver = async (
  connection: NatsConnection,
  { bucket, key }: EntryKey,
  text: string,
  revision: number,
): Promise<number | null> => {
  const write = async (lastSubjectSequence: number): Promise<number | null> => {
    try {
      return (await jetstream(connection).publish(subjectOf(bucket, key), text, { expect: { lastSubjectSequence } }))
        .seq
    } catch (error) {
      if (isConflict(error)) return null
      throw error
    }
  }
  const written = await write(revision)
  if (written !== null || revision !== 0) return written
  const there = await newest(connection, bucket, key)
  return there === null || there.operation === "PUT" ? null : write(there.revision)
}

/**
 * What is under a key, removed or not, as the stream's leader has it: any server may answer a direct get, and one that is
 * behind knows nothing of a write that was acknowledged just now. Null where there never was anything.
 */
export const newest = async (connection: NatsConnection, bucket: string, key: string): Promise<Change | null> => {
  const { streams } = await jetstreamManager(connection, { checkAPI: false })
  const message = await streams.getMessage(`KV_${bucket}`, { last_by_subj: subjectOf(bucket, key) })
  if (message === null) return null
  const { header, seq } = message
  return { key, operation: operationOf(header), revision: seq, string: () => message.string() }
}

const subjectOf = (bucket: string, key: string): string => `$KV.${bucket}.${key}`

/** Makes a bucket where there is none; one that an operator has made with settings of his own stands as it is. */
export const openKv = async (
  connection: NatsConnection,
  name: string,
  options: Partial<KvOptions> = {},
): Promise<KV> => {
  try {
    return await new Kvm(connection).create(name, { history: 1, replicas: copiesAt(connection), ...options })
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === OTHER_SETTINGS) return new Kvm(connection).open(name)
    throw error
  }
}

interface Watched {
  readonly bucket: string
  readonly key: string
  readonly lives?: SubscriptionRef.SubscriptionRef<number> // counts how often the bucket was made again
}

/**
 * Calls with what is under some keys, and with each change of it, for ever. A watch does not outlive its server: with each
 * new connection, and where a change may have been missed, another one begins, after `renewed`, and tells everything again.
 */
export const watching = Effect.fnUntraced(function* <R>(
  { connection, connected }: Nats["Service"],
  { bucket, key, lives }: Watched,
  heard: (entry: Change) => Effect.Effect<void, never, R>,
  renewed: Effect.Effect<void, never, R> = Effect.void,
) {
  const changes = Stream.unwrap(
    Effect.map(
      Effect.acquireRelease(
        Effect.tryPromise(() => changesOf(connection, bucket, [key])),
        ({ stop }) => Effect.sync(stop),
      ),
      ({ all }) => Stream.fromAsyncIterable(all, (error) => error),
    ),
  ).pipe(Stream.runForEach(heard), Effect.scoped)
  // It also ends before its time where the server is not ready for it yet.
  const again = Effect.andThen(Effect.sleep(WATCH_AGAIN_MILLIS), renewed)
  const watch = Effect.forever(Effect.andThen(Effect.ignore(changes), again))
  const reborn = lives === undefined ? Stream.empty : Stream.drop(SubscriptionRef.changes(lives), 1)
  yield* SubscriptionRef.changes(connected).pipe(
    Stream.filter((up) => up),
    Stream.merge(reborn),
    Stream.zipWithIndex,
    Stream.switchMap(([, times]) => Stream.fromEffect(Effect.andThen(times === 0 ? Effect.void : renewed, watch))),
    Stream.runDrain,
  )
  return yield* Effect.never
})

export const keysOf = async (
  connection: NatsConnection,
  bucket: string,
  filters: ReadonlyArray<string> = [">"],
): Promise<ReadonlyArray<string>> => {
  const { kept, all, stop } = await changesOf(connection, bucket, filters)
  const keys: Array<string> = []
  let left = kept
  if (left === 0) stop()
  // Read to its end, also when it is stopped: only then is its inbox given up.
  for await (const { key, operation } of all) {
    if (left > 0 && operation === "PUT") keys.push(key)
    if (--left === 0) stop()
  }
  if (left > 0) throw new Error("a list of keys was cut short")
  return keys
}

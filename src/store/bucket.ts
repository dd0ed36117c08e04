// A bucket whose values are JSON of one schema, so that `nats kv get` reads well. Writers that share a key write by revision;
// readers follow the whole bucket.
import { Effect, Result, Schedule, Schema, type Scope, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { StorageRefused } from "../wire/errors.ts"
import { bucketOf, type Change, keysOf, newest, put, remove, watching, writeOver } from "./keys.ts"
import { Storage, type StorageError } from "./storage.ts"
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
  /** Writes over exactly this revision, 0 where there is nothing yet; null when another writer was quicker. */
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

const OPEN_AGAIN = { schedule: Schedule.spaced("250 millis"), times: 12 }

export const openBucket = Effect.fnUntraced(function* <A>(name: string, schema: Schema.Codec<A, unknown>) {
  const storage = yield* Storage
  const bus = yield* Bus
  const of = bucketOf(name)
  const make = storage.make(of)
  const failing = (key: string) => (error: StorageError) => {
    const refused = error instanceof StorageRefused ? error : null
    const reason = refused?.reason ?? error.message
    return new BucketFailed({ bucket: name, key, reason, tooLarge: refused?.tooLarge === true })
  }
  const attempt = <B>(key: string, asked: Effect.Effect<B, StorageError>) =>
    Effect.mapError(remaking(make, asked), failing(key))
  const write = <B>(key: string, asked: Effect.Effect<B, StorageError>) =>
    Effect.mapError(minded(storage.health, of.stream, remaking(make, asked)), failing(key))
  // Of two processes that make it at once in a cluster, one may be refused for a moment.
  yield* attempt("all of it", make).pipe(Effect.retry(OPEN_AGAIN))
  const encode = Schema.encodeSync(schema)
  const decodeJson = Schema.decodeUnknownResult(Schema.fromJsonString(schema))
  const text = (value: A) => JSON.stringify(encode(value), null, 2)
  const understood = (key: string, value: string): Effect.Effect<A | null> => {
    const decoded = decodeJson(value)
    if (Result.isSuccess(decoded)) return Effect.succeed(decoded.success)
    const reason = decoded.failure.message.replaceAll(/\s*\n\s*/g, " ")
    return Effect.as(Effect.logWarning(`${key} in ${name} is left out: ${reason}`), null)
  }

  const entryOf = Effect.fnUntraced(function* (change: Change | null) {
    const value = change?.text == null ? null : yield* understood(change.key, change.text)
    return change === null || value === null ? null : { value, revision: change.revision }
  })

  const get = (key: string) => Effect.flatMap(attempt(key, newest(storage, of, key)), entryOf)

  const replace = (key: string, value: A, revision: number) =>
    write(key, writeOver(storage, of, key, text(value), revision))

  const load = Effect.gen(function* () {
    const keys = yield* attempt("all keys", keysOf(storage, of))
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
    const hear = (heard: Change) => Effect.flatMap(entryOf(heard), (entry) => change(heard.key, entry))
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
    const look = yield* Effect.provideService(keepUp({ stream: of, remade }), Storage, storage)
    yield* watching({ of, key: ">", lives }, hear, Effect.ignore(Effect.andThen(look, renewed))).pipe(
      Effect.provideService(Storage, storage),
      Effect.provideService(Bus, bus),
      Effect.forkScoped,
    )
    return ref
  })

  const bucket: Bucket<A> = {
    get,
    put: (key, value) => write(key, put(storage, of, key, text(value))),
    replace,
    remove: (key) => write(key, remove(storage, of, key)),
    follow: following(false),
    uphold: following(true),
  }
  return bucket
})

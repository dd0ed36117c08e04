// The keys of a bucket, as the messages of a stream: each key is a subject, of which the last message counts.
import { Effect, Stream, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { type BucketStream, Storage, type StorageError, StorageSilent, type Stored } from "./storage.ts"

export const bucketOf = (
  bucket: string,
  options: Pick<BucketStream, "keepMillis" | "markerMillis"> = {},
): BucketStream => ({
  ...{ _tag: "Bucket", stream: `KV_${bucket}`, bucket },
  ...options,
})

/** What is under a key. */
export interface Change {
  readonly key: string
  readonly revision: number
  readonly text: string | null // null: it was removed
}

const subjectOf = (bucket: string, key: string): string => `$KV.${bucket}.${key}`

const changeOf = (bucket: string, { subject, sequence, data, removed }: Stored): Change => ({
  key: subject.slice(`$KV.${bucket}.`.length),
  revision: sequence,
  text: removed ? null : new TextDecoder().decode(data),
})

/** Writes whatever is there. */
export const put = ({ append }: Storage["Service"], { bucket, stream }: BucketStream, key: string, text: string) =>
  Effect.map(
    append({ stream, subject: subjectOf(bucket, key), data: new TextEncoder().encode(text) }),
    (revision) => revision ?? 0, // no writer can be quicker where nothing is expected
  )

/** Removes it whatever is there; where that is told to others, its marker goes by itself after a while. */
export const remove = (
  { append }: Storage["Service"],
  { bucket, stream, markerMillis }: BucketStream,
  key: string,
): Effect.Effect<void, StorageError> =>
  Effect.asVoid(
    append({
      ...{ stream, subject: subjectOf(bucket, key), data: new Uint8Array(0) },
      removes: markerMillis === undefined ? {} : { markerMillis },
    }),
  )

/** Writes over exactly this revision, 0 where there is nothing; null when another writer was quicker. */
export const writeOver = (
  storage: Storage["Service"],
  of: BucketStream,
  key: string,
  text: string,
  revision: number,
): Effect.Effect<number | null, StorageError> => {
  const { bucket, stream } = of
  const data = new TextEncoder().encode(text)
  const write = (after: number) => storage.append({ stream, subject: subjectOf(bucket, key), data, after })
  return Effect.flatMap(write(revision), (written) =>
    written !== null || revision !== 0
      ? Effect.succeed(written)
      : Effect.flatMap(newest(storage, of, key), (there) =>
          there === null || there.text !== null ? Effect.succeed(null) : write(there.revision),
        ),
  )
}

/**
 * What is under a key, removed or not, as the stream's leader has it: any server may answer a direct get, and one that is
 * behind knows nothing of a write that was acknowledged just now. Null where there never was anything.
 */
export const newest = (
  { newest }: Storage["Service"],
  { bucket, stream }: BucketStream,
  key: string,
): Effect.Effect<Change | null, StorageError> =>
  Effect.map(newest(stream, subjectOf(bucket, key)), (stored) => (stored === null ? null : changeOf(bucket, stored)))

/** Those under which something is. Filters may have the wildcards of subjects. */
export const keysOf = (
  { changes }: Storage["Service"],
  { bucket, stream }: BucketStream,
  filters: ReadonlyArray<string> = [">"],
): Effect.Effect<ReadonlyArray<string>, StorageError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const { kept, all } = yield* changes(
        stream,
        filters.map((filter) => subjectOf(bucket, filter)),
      )
      if (kept === 0) return []
      const there = yield* Stream.runCollect(Stream.take(all, kept))
      if (there.length < kept) return yield* new StorageSilent({ stream, reason: "a list of keys was cut short" })
      return there.map((stored) => changeOf(bucket, stored)).flatMap(({ key, text }) => (text === null ? [] : [key]))
    }),
  )

export interface Watched {
  readonly of: BucketStream
  readonly key: string
  readonly lives?: SubscriptionRef.SubscriptionRef<number> // counts how often the bucket was made again
}

const WATCH_AGAIN_MILLIS = 250

/**
 * Calls with what is under some keys, and with each change of it, for ever. A watch does not outlive its server: with each
 * new connection, and where a change may have been missed, another one begins, after `renewed`, and tells everything again.
 */
export const watching = Effect.fnUntraced(function* <R>(
  { of: { bucket, stream }, key, lives }: Watched,
  heard: (change: Change) => Effect.Effect<void, never, R>,
  renewed: Effect.Effect<void, never, R> = Effect.void,
) {
  const { connected } = yield* Bus
  const storage = yield* Storage
  const changes = Effect.flatMap(storage.changes(stream, [subjectOf(bucket, key)]), ({ all }) =>
    Stream.runForEach(all, (stored) => heard(changeOf(bucket, stored))),
  ).pipe(Effect.scoped)
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

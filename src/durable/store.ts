// Where executions are kept: JSON in two buckets. What is written once (an activity's result, a deferred, a clock) stays
// as it was written first; a record is replaced by revision. Whatever fails is tried until the server takes it; only an
// execution does not begin where its record is refused.
import { Effect, Result, Schedule, Schema, type Scope, Stream, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { bucketOf, type Change, keysOf, newest, put, remove, watching, writeOver } from "../store/keys.ts"
import { type BucketStream, Storage, type StorageError } from "../store/storage.ts"
import { minded } from "../store/storageHealth.ts"
import { keepUp, remaking } from "../store/upkeep.ts"
import { StorageRefused } from "../wire/errors.ts"
import { keyPart, nameOf } from "./key.ts"
import { Execution } from "./ownership.ts"

export interface StoreOptions {
  readonly bucket: string
  readonly namespace: string // of the executions that are looked at
  readonly keepMillis: number // how long a result can be asked for
}

export interface Recorded {
  readonly execution: Execution
  readonly revision: number
}

/** What is kept of an execution besides its record. */
export type Part = "activity" | "deferred" | "clock"
const PARTS: ReadonlyArray<Part> = ["activity", "deferred", "clock"]

export interface Store {
  /** Null where there is one. Fails at once where the storage does not take it. */
  readonly create: (id: string, execution: Execution) => Effect.Effect<number | null, StorageRefused>
  readonly get: (id: string) => Effect.Effect<Recorded | null>
  /** Null where another writer was quicker. */
  readonly replace: (id: string, execution: Execution, revision: number) => Effect.Effect<number | null>
  /** Calls with every record, with each change, and with null when one is gone. */
  readonly follow: (heard: (id: string, recorded: Recorded | null) => Effect.Effect<void>) => Effect.Effect<never>
  /** The records were lost, and can be written again: told whenever that happens. */
  readonly lost: (told: Effect.Effect<void>) => Effect.Effect<void, never, Scope.Scope>
  /** Calls with each deferred that is completed. */
  readonly followDeferreds: (heard: (id: string, name: string) => Effect.Effect<void>) => Effect.Effect<never>
  readonly part: (part: Part, id: string, name: string) => Effect.Effect<unknown>
  /** Gives what is there now: this, or what was there before. */
  readonly writeOnce: (part: Part, id: string, name: string, value: unknown) => Effect.Effect<unknown>
  readonly result: (id: string) => Effect.Effect<unknown>
  /** The execution is over; null leaves no result. */
  readonly end: (id: string, result: unknown) => Effect.Effect<void>
}

/** The bucket, unless an engine has one of its own. */
export const EXECUTIONS = "chorus_executions"

const AGAIN = Schedule.spaced("250 millis")

/** Of a key whose winner is not written yet. */
export const CONFLICT_AGAIN_MILLIS = 50

/** A removed key's marker goes after this time; until then a follower that was away learns of the removal. */
const MARKER_MILLIS = 60_000

const decode = Schema.decodeUnknownResult(Schema.fromJsonString(Execution))

export const openStore = Effect.fnUntraced(function* ({ bucket, namespace, keepMillis }: StoreOptions) {
  const storage = yield* Storage
  const bus = yield* Bus
  const records = bucketOf(bucket, { markerMillis: MARKER_MILLIS })
  const results = bucketOf(`${bucket}_results`, { keepMillis })
  const remade = <A>(of: BucketStream, asked: Effect.Effect<A, StorageError>) => remaking(storage.make(of), asked)
  const minding = <A>(of: BucketStream, asked: Effect.Effect<A, StorageError>) =>
    minded(storage.health, of.stream, remade(of, asked))
  /** A defect where it can never be: a storage that only refuses for now is asked until it takes what is written. */
  const until = <A>(asked: Effect.Effect<A, StorageError>): Effect.Effect<A> =>
    asked.pipe(
      Effect.tapError((error) => Effect.logDebug(`${bucket} is asked again: ${error}`)),
      Effect.retry({ schedule: AGAIN, while: (error) => !(error instanceof StorageRefused && error.tooLarge) }),
      Effect.orDie,
    )
  const always = <A>(of: BucketStream, asked: Effect.Effect<A, StorageError>) => until(remade(of, asked))
  const alwaysWrite = <A>(of: BucketStream, asked: Effect.Effect<A, StorageError>) => until(minding(of, asked))
  yield* until(storage.make(records))
  yield* until(storage.make(results))
  const lives = yield* SubscriptionRef.make(0)
  yield* keepUp({ stream: records, remade: SubscriptionRef.update(lives, (life) => life + 1) })
  yield* keepUp({ stream: results, remade: Effect.void }) // results that are gone are gone
  const keyOf = (id: string) => recordKey(namespace, id)
  const partKey = (part: Part, id: string, name: string) => `${namespace}.${part}.${keyPart(id)}.${keyPart(name)}`
  const resultKey = (id: string) => `${namespace}.${keyPart(id)}`
  const there = (of: BucketStream, key: string) => always(of, newest(storage, of, key))

  const write = (id: string, execution: Execution, revision: number) =>
    writeOver(storage, records, keyOf(id), JSON.stringify(execution), revision)

  /** Two may write it, and neither may be told of a value that is not there yet. */
  const once = Effect.fnUntraced(function* (key: string, value: unknown) {
    for (;;) {
      const written = yield* writeOver(storage, records, key, JSON.stringify(value), 0)
      if (written !== null) return value
      const there = jsonOf(yield* newest(storage, records, key))
      if (there !== null) return there
      yield* Effect.sleep(CONFLICT_AGAIN_MILLIS)
    }
  })

  const watch = (key: string, heard: (change: Change) => Effect.Effect<void>) =>
    watching({ of: records, key, lives }, heard).pipe(
      Effect.provideService(Storage, storage),
      Effect.provideService(Bus, bus),
    )

  const store: Store = {
    create: (id, execution) =>
      minding(records, write(id, execution, 0)).pipe(
        Effect.retry({ schedule: AGAIN, while: (error) => !(error instanceof StorageRefused) }),
        Effect.catch(
          (error): Effect.Effect<never, StorageRefused> =>
            error instanceof StorageRefused ? Effect.fail(error) : Effect.never,
        ),
      ),
    replace: (id, execution, revision) => alwaysWrite(records, write(id, execution, revision)),
    lost: (told) =>
      Effect.asVoid(Effect.forkScoped(Stream.runForEach(Stream.drop(SubscriptionRef.changes(lives), 1), () => told))),
    get: (id) => Effect.map(there(records, keyOf(id)), recordedOf),
    follow: (heard) => watch(`${namespace}.execution.*`, (change) => heard(idOf(change), recordedOf(change))),
    followDeferreds: (heard) =>
      watch(`${namespace}.deferred.>`, ({ key, text }) => {
        const [, , id = "", name = ""] = key.split(".")
        return text === null ? Effect.void : heard(nameOf(id), nameOf(name))
      }),
    part: (part, id, name) => Effect.map(there(records, partKey(part, id, name)), jsonOf),
    writeOnce: (part, id, name, value) => alwaysWrite(records, once(partKey(part, id, name), value)),
    result: (id) => Effect.map(there(results, resultKey(id)), jsonOf),
    end: Effect.fnUntraced(function* (id, result) {
      if (result !== null) {
        yield* alwaysWrite(results, put(storage, results, resultKey(id), JSON.stringify(result)))
        const filters = PARTS.map((part) => `${namespace}.${part}.${keyPart(id)}.>`)
        const keys = yield* always(records, keysOf(storage, records, filters))
        yield* Effect.forEach(keys, (key) => alwaysWrite(records, remove(storage, records, key)), { discard: true })
      }
      yield* alwaysWrite(records, remove(storage, records, keyOf(id)))
    }),
  }
  return store
})

const recordKey = (namespace: string, id: string): string => `${namespace}.execution.${keyPart(id)}`

/** Whether there is such an execution, which an engine runs or will run. */
export const isRecorded = (
  storage: Storage["Service"],
  namespace: string,
  id: string,
): Effect.Effect<boolean, StorageError> =>
  Effect.map(
    newest(storage, bucketOf(EXECUTIONS), recordKey(namespace, id)),
    (change) => (change?.text ?? null) !== null,
  )

const jsonOf = (change: Change | null): unknown =>
  change === null || change.text === null ? null : JSON.parse(change.text)

const recordedOf = (change: Change | null): Recorded | null => {
  if (change === null || change.text === null) return null
  const execution = decode(change.text)
  return Result.isSuccess(execution) ? { execution: execution.success, revision: change.revision } : null
}

const idOf = ({ key }: Change): string => nameOf(key.split(".")[2] ?? "")

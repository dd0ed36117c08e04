// Where executions are kept: JSON in two buckets. What is written once (an activity's result, a deferred, a clock) stays
// as it was written first; a record is replaced by revision. Whatever fails is tried until the server takes it; only an
// execution does not begin where its record is refused.
import type { NatsConnection } from "@nats-io/transport-node"
import { Effect, Result, Schedule, Schema, type Scope, Stream, SubscriptionRef } from "effect"
import { answered, Nats } from "../bus/nats.ts"
import { keysOf, newest, openKv, watching, writeOver } from "../store/bucket.ts"
import type { Change } from "../store/bucketChanges.ts"
import { refusalOf } from "../store/refusal.ts"
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
  /** Null where somebody was quicker. */
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
const MARKER_TTL = "1m"

const decode = Schema.decodeUnknownResult(Schema.fromJsonString(Execution))

export const openStore = Effect.fnUntraced(function* ({ bucket, namespace, keepMillis }: StoreOptions) {
  const nats = yield* Nats
  const { connection } = nats
  const make = () => openKv(connection, bucket, { markerTTL: MARKER_MILLIS })
  const makeResults = () => openKv(connection, `${bucket}_results`, { ttl: keepMillis })
  const ask = <A>(use: () => Promise<A>, of = bucket) =>
    remaking(
      of === bucket ? make : makeResults,
      Effect.tryPromise({ try: () => answered(connection, use()), catch: (error) => error }),
    )
  const minding = <A>(use: () => Promise<A>, of = bucket) => minded(connection, `KV_${of}`, ask(use, of))
  /** A defect where it can never be: a storage that only refuses for now is asked until it takes what is written. */
  const until = <A>(asked: Effect.Effect<A, unknown>): Effect.Effect<A> =>
    asked.pipe(
      Effect.tapError((error) => Effect.logDebug(`${bucket} is asked again: ${error}`)),
      Effect.mapError((error) => refusalOf(`KV_${bucket}`, error) ?? error),
      Effect.retry({ schedule: AGAIN, while: (error) => !(error instanceof StorageRefused && error.tooLarge) }),
      Effect.orDie,
    )
  const always = <A>(use: () => Promise<A>, of = bucket) => until(ask(use, of))
  const alwaysWrite = <A>(use: () => Promise<A>, of = bucket) => until(minding(use, of))
  const records = yield* always(make)
  const results = yield* always(makeResults, `${bucket}_results`)
  const lives = yield* SubscriptionRef.make(0)
  yield* keepUp({
    ...{ stream: `KV_${bucket}`, make },
    remade: SubscriptionRef.update(lives, (life) => life + 1),
  })
  yield* keepUp({ stream: `KV_${bucket}_results`, make: makeResults, remade: Effect.void }) // results that are gone are gone
  const keyOf = (id: string) => recordKey(namespace, id)
  const partKey = (part: Part, id: string, name: string) => `${namespace}.${part}.${keyPart(id)}.${keyPart(name)}`
  const resultKey = (id: string) => `${namespace}.${keyPart(id)}`

  const write = (id: string, execution: Execution, revision: number) => () =>
    writeOver(connection, { bucket, key: keyOf(id) }, JSON.stringify(execution), revision)

  /** Two may write it, and neither may be told of a value that is not there yet. */
  const once = async (key: string, value: unknown): Promise<unknown> => {
    for (;;) {
      const written = await writeOver(connection, { bucket, key }, JSON.stringify(value), 0)
      if (written !== null) return value
      const there = jsonOf(await newest(connection, bucket, key))
      if (there !== null) return there
      await new Promise((again) => setTimeout(again, CONFLICT_AGAIN_MILLIS))
    }
  }

  const store: Store = {
    create: (id, execution) =>
      minding(write(id, execution, 0)).pipe(
        Effect.mapError((error) => refusalOf(`KV_${bucket}`, error)),
        Effect.retry({ schedule: AGAIN, while: (refused) => refused === null }),
        Effect.catch(
          (refused): Effect.Effect<never, StorageRefused> => (refused === null ? Effect.never : Effect.fail(refused)),
        ),
      ),
    replace: (id, execution, revision) => alwaysWrite(write(id, execution, revision)),
    lost: (told) =>
      Effect.asVoid(Effect.forkScoped(Stream.runForEach(Stream.drop(SubscriptionRef.changes(lives), 1), () => told))),
    get: (id) =>
      Effect.map(
        always(() => newest(connection, bucket, keyOf(id))),
        recordedOf,
      ),
    follow: (heard) =>
      watching(nats, { bucket, key: `${namespace}.execution.*`, lives }, (entry) =>
        heard(idOf(entry), recordedOf(entry)),
      ),
    followDeferreds: (heard) =>
      watching(nats, { bucket, key: `${namespace}.deferred.>`, lives }, (entry) => {
        const [, , id = "", name = ""] = entry.key.split(".")
        return entry.operation === "PUT" ? heard(nameOf(id), nameOf(name)) : Effect.void
      }),
    part: (part, id, name) =>
      Effect.map(
        always(() => newest(connection, bucket, partKey(part, id, name))),
        jsonOf,
      ),
    writeOnce: (part, id, name, value) => alwaysWrite(() => once(partKey(part, id, name), value)),
    result: (id) =>
      Effect.map(
        always(() => newest(connection, `${bucket}_results`, resultKey(id)), `${bucket}_results`),
        jsonOf,
      ),
    end: Effect.fnUntraced(function* (id, result) {
      if (result !== null) {
        yield* alwaysWrite(() => results.put(resultKey(id), JSON.stringify(result)), `${bucket}_results`)
        const filters = PARTS.map((part) => `${namespace}.${part}.${keyPart(id)}.>`)
        const keys = yield* always(() => keysOf(connection, bucket, filters))
        yield* Effect.forEach(keys, (key) => alwaysWrite(() => records.purge(key, { ttl: MARKER_TTL })), {
          discard: true,
        })
      }
      yield* alwaysWrite(() => records.purge(keyOf(id), { ttl: MARKER_TTL }))
    }),
  }
  return store
})

const recordKey = (namespace: string, id: string): string => `${namespace}.execution.${keyPart(id)}`

/** Whether there is such an execution, which somebody runs or will. */
export const isRecorded = async (connection: NatsConnection, namespace: string, id: string): Promise<boolean> => {
  const entry = await newest(connection, EXECUTIONS, recordKey(namespace, id))
  return entry?.operation === "PUT"
}

const jsonOf = (entry: Change | null): unknown =>
  entry === null || entry.operation !== "PUT" ? null : JSON.parse(entry.string())

const recordedOf = (entry: Change | null): Recorded | null => {
  if (entry === null || entry.operation !== "PUT") return null
  const execution = decode(entry.string())
  return Result.isSuccess(execution) ? { execution: execution.success, revision: entry.revision } : null
}

const idOf = ({ key }: Change): string => nameOf(key.split(".")[2] ?? "")

// Where executions are kept: JSON in two buckets. What is written once (an activity's result, a deferred, a clock) stays
// as it was written first; a record is replaced by revision. Whatever fails is tried until the server takes it.
import { Effect, Result, Schedule, Schema } from "effect"
import { answered, Nats } from "../bus/nats.ts"
import { keysOf, newest, openKv, watching, writeOver } from "../store/bucket.ts"
import type { Change } from "../store/bucketChanges.ts"
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
  readonly create: (id: string, execution: Execution) => Effect.Effect<number | null>
  readonly get: (id: string) => Effect.Effect<Recorded | null>
  /** Null where somebody was quicker. */
  readonly replace: (id: string, execution: Execution, revision: number) => Effect.Effect<number | null>
  /** Calls with every record, with each change, and with null when one is gone. */
  readonly follow: (heard: (id: string, recorded: Recorded | null) => Effect.Effect<void>) => Effect.Effect<never>
  /** Calls with each deferred that is completed. */
  readonly followDeferreds: (heard: (id: string, name: string) => Effect.Effect<void>) => Effect.Effect<never>
  readonly part: (part: Part, id: string, name: string) => Effect.Effect<unknown>
  /** Gives what is there now: this, or what was there before. */
  readonly writeOnce: (part: Part, id: string, name: string, value: unknown) => Effect.Effect<unknown>
  readonly result: (id: string) => Effect.Effect<unknown>
  /** The execution is over; null leaves no result. */
  readonly end: (id: string, result: unknown) => Effect.Effect<void>
}

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
  const always = <A>(use: () => Promise<A>): Effect.Effect<A> =>
    Effect.tryPromise(() => answered(connection, use())).pipe(
      Effect.tapError((error) => Effect.logDebug(`${bucket} is asked again: ${error.message}`)),
      Effect.retry({ schedule: AGAIN }),
      Effect.orDie,
    )
  const records = yield* always(() => openKv(connection, bucket, { markerTTL: MARKER_MILLIS }))
  const results = yield* always(() => openKv(connection, `${bucket}_results`, { ttl: keepMillis }))
  const keyOf = (id: string) => `${namespace}.execution.${keyPart(id)}`
  const partKey = (part: Part, id: string, name: string) => `${namespace}.${part}.${keyPart(id)}.${keyPart(name)}`
  const resultKey = (id: string) => `${namespace}.${keyPart(id)}`

  const write = (id: string, execution: Execution, revision: number) =>
    always(() => writeOver(connection, { bucket, key: keyOf(id) }, JSON.stringify(execution), revision))

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
    create: (id, execution) => write(id, execution, 0),
    replace: write,
    get: (id) =>
      Effect.map(
        always(() => newest(connection, bucket, keyOf(id))),
        recordedOf,
      ),
    follow: (heard) =>
      watching(nats, { bucket, key: `${namespace}.execution.*` }, (entry) => heard(idOf(entry), recordedOf(entry))),
    followDeferreds: (heard) =>
      watching(nats, { bucket, key: `${namespace}.deferred.>` }, (entry) => {
        const [, , id = "", name = ""] = entry.key.split(".")
        return entry.operation === "PUT" ? heard(nameOf(id), nameOf(name)) : Effect.void
      }),
    part: (part, id, name) =>
      Effect.map(
        always(() => newest(connection, bucket, partKey(part, id, name))),
        jsonOf,
      ),
    writeOnce: (part, id, name, value) => always(() => once(partKey(part, id, name), value)),
    result: (id) =>
      Effect.map(
        always(() => newest(connection, `${bucket}_results`, resultKey(id))),
        jsonOf,
      ),
    end: Effect.fnUntraced(function* (id, result) {
      if (result !== null) {
        yield* always(() => results.put(resultKey(id), JSON.stringify(result)))
        const filters = PARTS.map((part) => `${namespace}.${part}.${keyPart(id)}.>`)
        const keys = yield* always(() => keysOf(connection, bucket, filters))
        yield* Effect.forEach(keys, (key) => always(() => records.purge(key, { ttl: MARKER_TTL })), { discard: true })
      }
      yield* always(() => records.purge(keyOf(id), { ttl: MARKER_TTL }))
    }),
  }
  return store
})

const jsonOf = (entry: Change | null): unknown =>
  entry === null || entry.operation !== "PUT" ? null : JSON.parse(entry.string())

const recordedOf = (entry: Change | null): Recorded | null => {
  if (entry === null || entry.operation !== "PUT") return null
  const execution = decode(entry.string())
  return Result.isSuccess(execution) ? { execution: execution.success, revision: entry.revision } : null
}

const idOf = ({ key }: Change): string => nameOf(key.split(".")[2] ?? "")

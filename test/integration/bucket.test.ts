// Buckets and leases on a real nats-server: writing by revision, following over a restart of the server, values that are not
// of the schema, an operator's own settings, and one holder of a lease at a time.
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { jetstreamManager } from "@nats-io/jetstream"
import { Kvm } from "@nats-io/kv"
import { connect } from "@nats-io/transport-node"
import { Deferred, Effect, Fiber, Schema, type Scope, Stream, SubscriptionRef } from "effect"
import { afterEach, beforeEach, expect, test } from "vitest"
import type { Bus } from "../../src/bus/bus.ts"
import { Nats } from "../../src/bus/nats.ts"
import { type Entries, openBucket } from "../../src/store/bucket.ts"
import { onNats } from "../../src/store/jetStream.ts"
import { bucketOf, keysOf } from "../../src/store/keys.ts"
import { holding } from "../../src/store/lease.ts"
import { Storage } from "../../src/store/storage.ts"
import { Server } from "./rankGroup.ts"

const Value = Schema.Struct({ count: Schema.Int })
const open = openBucket("test", Value)

let folder: string
let server: Server
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "chorus-test-"))
  server = await Server.start({ folder })
})
afterEach(async () => {
  await server[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
})

const run = <A, E>(use: Effect.Effect<A, E, Nats | Bus | Storage | Scope.Scope>) =>
  Effect.runPromise(Effect.provide(Effect.scoped(use), onNats({ url: server.url, name: "test" })))

const until = (followed: SubscriptionRef.SubscriptionRef<Entries<typeof Value.Type>>, key: string, count: number) =>
  SubscriptionRef.changes(followed).pipe(
    Stream.filter((all) => all.get(key)?.value.count === count),
    Stream.runHead,
  )

test("a key is written over the revision that was read, or not at all", () =>
  run(
    Effect.gen(function* () {
      const bucket = yield* open
      const first = yield* bucket.replace("a", { count: 1 }, 0)
      expect(yield* bucket.replace("a", { count: 9 }, 0)).toBeNull()
      expect(yield* bucket.replace("a", { count: 2 }, first ?? 0)).toBeGreaterThan(first ?? 0)
      expect(yield* bucket.replace("a", { count: 9 }, first ?? 0)).toBeNull()
      expect((yield* bucket.get("a"))?.value).toEqual({ count: 2 })
      yield* bucket.remove("a")
      expect(yield* bucket.get("a")).toBeNull()
      expect(yield* bucket.replace("a", { count: 3 }, 0)).not.toBeNull()
    }),
  ))

test("what is followed is there at once, changes, and outlives the server", async () => {
  const port = Number(new URL(server.url).port)
  await run(
    Effect.gen(function* () {
      const bucket = yield* open
      yield* bucket.put("a", { count: 1 })
      const followed = yield* bucket.follow
      expect(SubscriptionRef.getUnsafe(followed).get("a")?.value).toEqual({ count: 1 })
      yield* bucket.put("b", { count: 2 })
      yield* until(followed, "b", 2)
      yield* Effect.promise(async () => {
        await server[Symbol.asyncDispose]()
        server = await Server.start({ folder, port })
        const other = await connect({ servers: server.url })
        await (await new Kvm(other).open("test")).put("a", JSON.stringify({ count: 3 }))
        await other.close()
      })
      yield* until(followed, "a", 3)
      yield* Effect.retry(bucket.put("a", { count: 4 }), { times: 20 })
      yield* until(followed, "a", 4)
      expect(SubscriptionRef.getUnsafe(followed).get("b")?.value).toEqual({ count: 2 })
    }),
  )
})

test("a malformed value that was written by hand is left out", () =>
  run(
    Effect.gen(function* () {
      const bucket = yield* open
      const { connection } = yield* Nats
      const kv = yield* Effect.promise(() => new Kvm(connection).open("test"))
      yield* bucket.put("a", { count: 1 })
      yield* Effect.promise(() => kv.put("b", '{"count": "two"}'))
      const followed = yield* bucket.follow
      expect([...SubscriptionRef.getUnsafe(followed).keys()]).toEqual(["a"])
      yield* Effect.promise(() => kv.put("a", "{"))
      yield* bucket.put("c", { count: 3 })
      yield* until(followed, "c", 3)
      expect([...SubscriptionRef.getUnsafe(followed).keys()]).toEqual(["c"])
    }),
  ))

test("listing keys, or following them for a while, leaves no consumer on the server", async () => {
  const consumers = Effect.gen(function* () {
    const manager = yield* Effect.flatMap(Nats, ({ connection }) => Effect.promise(() => jetstreamManager(connection)))
    return (yield* Effect.promise(() => manager.streams.info("KV_test"))).state.consumer_count
  })
  await run(
    Effect.gen(function* () {
      const nats = yield* Nats
      const storage = yield* Storage
      const bucket = yield* open
      yield* bucket.put("a", { count: 1 })
      yield* bucket.put("b", { count: 2 })
      yield* bucket.remove("b")
      expect(yield* keysOf(storage, bucketOf("test"))).toEqual(["a"])
      expect(yield* keysOf(storage, bucketOf("test"), ["c", "d.>"])).toEqual([])
      yield* Effect.scoped(
        Effect.gen(function* () {
          const followed = yield* bucket.follow
          yield* bucket.put("a", { count: 3 })
          yield* until(followed, "a", 3)
          expect(yield* consumers).toBe(1)
        }),
      )
      yield* Effect.promise(() =>
        expect.poll(() => Effect.runPromise(Effect.provideService(consumers, Nats, nats))).toBe(0),
      )
    }),
  )
})

test("an operator's own settings of a bucket stand", () =>
  run(
    Effect.gen(function* () {
      const { connection } = yield* Nats
      yield* Effect.promise(() => new Kvm(connection).create("test", { history: 9 }))
      yield* Effect.flatMap(open, (bucket) => bucket.put("a", { count: 1 }))
      const manager = yield* Effect.promise(() => jetstreamManager(connection))
      const { config } = yield* Effect.promise(() => manager.streams.info("KV_test"))
      expect(config.max_msgs_per_subject).toBe(9)
    }),
  ))

test("a lease has one holder, and another one when that ends or is silent", () =>
  run(
    Effect.gen(function* () {
      const { connection } = yield* Nats
      const holds = yield* Effect.all([1, 2].map(() => Deferred.make<void>()))
      const [first, second] = holds
      if (first === undefined || second === undefined) throw new Error("two are made")
      const hold = (got: Deferred.Deferred<void>) =>
        holding("key", "test", Effect.andThen(Deferred.succeed(got, undefined), Effect.never))
      const one = yield* Effect.forkChild(hold(first))
      yield* Deferred.await(first)
      yield* Effect.forkChild(hold(second))
      expect(yield* Deferred.isDone(second)).toBe(false)
      yield* Fiber.interrupt(one) // which gives it back
      yield* Deferred.await(second)

      const leases = yield* Effect.promise(() => new Kvm(connection).open("chorus_leases"))
      const lost = yield* Deferred.make<void>()
      const third = Effect.onInterrupt(Effect.never, () => Deferred.succeed(lost, undefined))
      yield* Effect.promise(() => leases.create("other", "somebody who says no more"))
      const got = yield* Deferred.make<void>()
      yield* Effect.forkChild(holding("other", "test", Effect.andThen(Deferred.succeed(got, undefined), third)))
      yield* Deferred.await(got) // when the silent one's time is over
      yield* Effect.promise(() => leases.put("other", "an operator"))
      yield* Deferred.await(lost)
    }),
  ))

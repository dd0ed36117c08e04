// What ended sessions leave on a replica is found by sessions that begin alike, gives way to those that need the room, the
// least useful of it first, and is freed once.
import { Effect, Exit, Scope } from "effect"
import { afterEach, beforeEach, expect, test } from "vitest"
import { type PrefixCache, prefixCache } from "../../../src/replica/prefixCache.ts"

let scope: Scope.Closeable
let freed: Array<string>

beforeEach(() => {
  scope = Scope.makeUnsafe()
  freed = []
})
afterEach(() => Effect.runPromise(Scope.close(scope, Exit.void)))

const kept = (keepMillis = 60_000): Promise<PrefixCache> =>
  Effect.runPromise(Scope.provide(prefixCache(keepMillis), scope))

const words = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i)

const leave = (keeping: PrefixCache, session: string, tokens: ReadonlyArray<number>, told: () => void = () => {}) =>
  Effect.runPromise(
    keeping.leave(
      { ...{ session, kv: `${session}.kv`, tokens }, base: tokens.length, draft: 0 },
      Effect.sync(() => {
        freed.push(session)
        told()
      }),
    ),
  )

test("a prompt finds the longest beginning; what is not kept is not found", async () => {
  const here = await kept()
  const other = [...words(0, 20), ...words(200, 40)]
  await leave(here, "a", words(0, 30))
  await leave(here, "b", other.slice(0, 50))
  expect(here.shared(other)).toBe(50)
  expect(here.reusable(words(0, 40))).toMatchObject({ session: "a", kv: "a.kv", base: 30 })
  expect(here.reusable(other)).toMatchObject({ session: "b", base: 50 })
  expect(here.reusable(words(100, 60))).toBeNull()
  expect(here.tokens()).toBe(80)
})

test("the least useful gives way, and no more than has to", async () => {
  const here = await kept()
  for (const [i, session] of ["a", "b", "c"].entries()) await leave(here, session, words(100 * i, 30))
  expect(here.reusable(words(0, 40))?.session).toBe("a")
  await Effect.runPromise(here.fit(60, []))
  expect(freed).toEqual(["b"])
  await Effect.runPromise(here.fit(60, []))
  expect(freed).toEqual(["b"])
  await Effect.runPromise(here.fit(30, words(200, 40))) // the session that needs the room goes on from c
  expect(freed).toEqual(["b", "a"])
  await Effect.runPromise(here.fit(-1, [])) // more is promised than there is
  expect(freed).toEqual(["b", "a", "c"])
  expect(here.tokens()).toBe(0)
})

test("a chat's last turn is enough, if both groups have as much of it", async () => {
  const here = await kept()
  await leave(here, "first", words(0, 30))
  await leave(here, "other", words(50, 30))
  await leave(here, "second", words(0, 60))
  expect(freed).toEqual(["first"])
  await Effect.runPromise(
    here.leave({ session: "third", kv: "third", tokens: words(0, 90), base: 59, draft: 0 }, Effect.void),
  )
  expect(freed).toEqual(["first"])
})

test("what the ranks have lost is forgotten, once", async () => {
  const here = await kept()
  await leave(here, "a", words(0, 30))
  await Effect.runPromise(Effect.andThen(here.forget("a"), here.forget("a")))
  expect(here.reusable(words(0, 40))).toBeNull()
  expect(freed).toEqual(["a"])
})

test("what others keep is found until they free it, and takes no memory; what it exceeds is dropped", async () => {
  const here = await kept()
  const prefix = (session: string, count: number) => ({
    session,
    kv: session,
    tokens: words(0, count),
    base: count,
    draft: 0,
  })
  await leave(here, "same", words(0, 50))
  here.elsewhere.kept(prefix("theirs", 50))
  here.elsewhere.kept(prefix("more", 70))
  expect(here.tokens()).toBe(50)
  expect(here.reusable(words(0, 90))?.session).toBe("more")
  here.elsewhere.freed("more")
  here.elsewhere.kept({ ...prefix("other", 40), tokens: words(500, 40) })
  expect(here.reusable(words(500, 90))?.session).toBe("other")
  await Effect.runPromise(here.forget("other")) // the ranks have lost it
  expect(here.reusable(words(500, 90))).toBeNull()
  expect(freed).toEqual([])
  const gone = new Promise<void>((resolve) => void leave(here, "part", words(0, 60), resolve))
  here.elsewhere.kept(prefix("whole", 61))
  await gone
  expect(freed).toContain("part")
})

test("it is freed when its time is over, and with the replica", async () => {
  const short = await kept(1)
  await new Promise<void>((resolve) => void leave(short, "a", words(0, 30), resolve))
  const long = await kept()
  await leave(long, "b", words(0, 30))
  await Effect.runPromise(Scope.close(scope, Exit.void))
  expect(freed).toEqual(["a", "b"])
})

test("where nothing is to be kept, a session that leaves is freed at once", async () => {
  const here = await kept(0)
  await leave(here, "a", words(0, 30))
  expect(freed).toEqual(["a"])
  expect(here.tokens()).toBe(0)
})

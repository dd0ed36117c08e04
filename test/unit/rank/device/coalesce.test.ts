// Continuous batching: several sessions' stretches as one, and each session's share of the result.
import { Deferred, Effect, Fiber, Semaphore } from "effect"
import { expect, test } from "vitest"
import type { Op, StretchResult } from "../../../../native/index.ts"
import { alike, Coalescer, divide, merge, type Stretch } from "../../../../src/rank/device/coalesce.ts"

const layers: Op = { op: "layers", from: 0, to: 4 }
const head = (rows: ReadonlyArray<number>, want: "tokens" | "logits" = "tokens"): Op => ({
  op: "head",
  rows: Int32Array.from(rows),
  want,
})
const stretch = (session: string, rows: number, ops: ReadonlyArray<Op>): Stretch => ({
  segments: [{ session, tokens: new Int32Array(rows).fill(1), parents: new Int32Array(rows) }],
  ops,
})
const result = (over: Partial<StretchResult>): StretchResult => ({
  ...{
    hiddens: [],
    attended: [],
    tokens: null,
    logProbs: null,
    topTokens: null,
    topLogProbs: null,
    logits: null,
    micros: 0,
  },
  ...over,
})

test("stretches of the same steps are alike, whatever their rows; others are not", () => {
  const verify: ReadonlyArray<Op> = [{ op: "embed" }, layers, head([0, 1])]
  expect(alike(verify, [{ op: "embed" }, layers, head([0])])).toBe(true)
  expect(alike(verify, [{ op: "embed" }, layers])).toBe(true) // a prefill, which wants no head
  expect(alike(verify, [{ op: "embed" }, layers, head([0], "logits")])).toBe(false)
  expect(alike(verify, [{ op: "embed" }, { op: "layers", from: 0, to: 3 }, head([0])])).toBe(false)
  expect(alike(verify, [{ op: "receive", hidden: new Uint8Array(4) }, layers, head([0])])).toBe(false)
  const mlps = (attended: Uint8Array | null): Op => ({ op: "mlps", layers: [1], attended: [attended] })
  expect(alike([mlps(null)], [mlps(null)])).toBe(true)
  expect(alike([mlps(null)], [mlps(new Uint8Array(4))])).toBe(false)
})

test("merged, the heads' rows count on, and the hidden states follow one another", () => {
  const one = stretch("a", 2, [{ op: "receive", hidden: Uint8Array.of(1, 2) }, layers, head([1])])
  const none = stretch("b", 3, [{ op: "receive", hidden: Uint8Array.of(3, 4, 5) }, layers])
  const other = stretch("c", 1, [{ op: "receive", hidden: Uint8Array.of(6) }, layers, head([0])])
  const [receive, through, last, ...more] = merge([one, none, other])
  expect(more).toEqual([])
  expect(receive?.op === "receive" && [...receive.hidden]).toEqual([1, 2, 3, 4, 5, 6])
  expect(through).toEqual(layers)
  expect(last?.op === "head" && [...last.rows]).toEqual([1, 5])
})

test("divided, each session gets the rows that are its own", () => {
  const all = [stretch("a", 2, [head([0, 1])]), stretch("b", 3, []), stretch("c", 1, [head([0])])]
  const [a, b, c] = divide(
    all,
    result({
      hiddens: [Uint8Array.of(1, 2, 3, 4, 5, 6)],
      tokens: Int32Array.of(10, 11, 12),
      logits: Float32Array.of(0, 1, 2, 3, 4, 5),
      micros: 600,
    }),
  )
  expect([a, b, c].map((one) => [...(one?.hiddens[0] ?? [])])).toEqual([[1, 2], [3, 4, 5], [6]])
  expect([a, b, c].map((one) => one?.tokens && [...one.tokens])).toEqual([[10, 11], null, [12]])
  expect(c?.logits && [...c.logits]).toEqual([4, 5])
  expect([a, b, c].map((one) => one?.micros)).toEqual([200, 300, 100])
})

/** A device whose calls end when they are told to. */
const device = () => {
  const calls: Array<{ readonly sessions: ReadonlyArray<string>; readonly end: Deferred.Deferred<void> }> = []
  const waiting: Array<() => void> = []
  const call = (stretches: ReadonlyArray<Stretch>) =>
    Effect.gen(function* () {
      const end = yield* Deferred.make<void>()
      calls.push({ sessions: stretches.flatMap(({ segments }) => segments.map(({ session }) => session)), end })
      for (const tell of waiting.splice(0)) tell()
      yield* Deferred.await(end)
      return result({ tokens: Int32Array.from(stretches, (_, i) => i) })
    })
  const called = (count: number): Promise<void> =>
    calls.length >= count
      ? Promise.resolve()
      : new Promise<void>((tell) => waiting.push(tell)).then(() => called(count))
  const end = (at: number) => {
    const { end } = calls[at] ?? {}
    if (end !== undefined) Deferred.doneUnsafe(end, Effect.void)
  }
  return { call, calls, called, end }
}

const ONE: ReadonlyArray<Op> = [{ op: "embed" }, layers, head([0])]

test("what comes while the device computes runs together, as far as the rows suffice, in the order it came", async () => {
  const { call, calls, called, end } = device()
  const coalescer = new Coalescer(Semaphore.makeUnsafe(1), 3, call)
  const ask = (session: string, rows = 1) => Effect.runFork(coalescer.run(stretch(session, rows, ONE)))
  const first = ask("a")
  await called(1)
  const later = [ask("b"), ask("c", 2), ask("d"), ask("e")]
  end(0)
  await called(2)
  end(1)
  await called(3)
  end(2)
  expect(calls.map(({ sessions }) => sessions)).toEqual([["a"], ["b", "c"], ["d", "e"]])
  const results = await Promise.all([first, ...later].map((fiber) => Effect.runPromise(Fiber.join(fiber))))
  expect(results.map(({ tokens }) => tokens && [...tokens])).toEqual([[0], [0], [1], [0], [1]])
})

test("one that is interrupted while it runs alone is stopped, and the next one runs", async () => {
  const { call, calls, called, end } = device()
  const coalescer = new Coalescer(Semaphore.makeUnsafe(1), 8, call)
  const ask = (session: string) => Effect.runFork(coalescer.run(stretch(session, 1, ONE)))
  const stopped = ask("a")
  await called(1)
  await Effect.runPromise(Fiber.interrupt(stopped)) // which waits until it has ended
  const next = ask("b")
  await called(2)
  end(1)
  expect([...((await Effect.runPromise(Fiber.join(next))).tokens ?? [])]).toEqual([0])
  expect(calls.map(({ sessions }) => sessions)).toEqual([["a"], ["b"]])
})

test("one that is interrupted while it waits is not run; one that others have taken along ends with them", async () => {
  const { call, calls, called, end } = device()
  const coalescer = new Coalescer(Semaphore.makeUnsafe(1), 8, call)
  const ask = (session: string) => Effect.runFork(coalescer.run(stretch(session, 1, ONE)))
  const first = ask("a")
  await called(1)
  const [gone, stays, taken] = [ask("b"), ask("c"), ask("d")]
  await Effect.runPromise(Fiber.interrupt(gone))
  end(0)
  await called(2)
  expect(calls[1]?.sessions).toEqual(["c", "d"])
  const interrupted = Effect.runPromise(Fiber.interrupt(taken))
  end(1)
  await interrupted
  expect((await Effect.runPromise(Fiber.join(stays))).tokens).toEqual(Int32Array.of(0))
  await Effect.runPromise(Fiber.join(first))
})

test("one that runs alone stops when it is interrupted, and the device is free for the next", async () => {
  const { call, calls, called, end } = device()
  const coalescer = new Coalescer(Semaphore.makeUnsafe(1), 8, call)
  const ask = (session: string) => Effect.runFork(coalescer.run(stretch(session, 1, ONE)))
  const alone = ask("a")
  await called(1)
  await Effect.runPromise(Fiber.interrupt(alone)) // would wait for an outcome for ever
  const next = ask("b")
  await called(2)
  end(1)
  expect((await Effect.runPromise(Fiber.join(next))).tokens).toEqual(Int32Array.of(0))
  expect(calls.map(({ sessions }) => sessions)).toEqual([["a"], ["b"]])
})

test("no pass waits for more than three calls, beside prompts so long that two do not go into one", async () => {
  const [rounds, most] = [40, 64]
  let calls = 0
  const waited: Array<number> = []
  const together = new Coalescer<never>(Semaphore.makeUnsafe(1), most, (stretches) =>
    Effect.sync(() => {
      calls += 1
      expect(
        stretches.flatMap(({ segments }) => segments).reduce((sum, { tokens }) => sum + tokens.length, 0),
      ).toBeLessThanOrEqual(most)
      return result({ tokens: Int32Array.from(stretches, (_, i) => i) })
    }),
  )
  const session = (name: string, rows: number) =>
    Effect.gen(function* () {
      for (let round = 0; round < rounds; round++) {
        const asked = calls
        yield* together.run(stretch(name, rows, [layers, head([0])]))
        waited.push(calls - asked)
      }
    })
  const sessions = [
    ...["p1", "p2", "p3"].map((name) => session(name, 60)),
    ...Array.from({ length: 10 }, (_, i) => session(`d${i}`, 1)),
  ]
  await Effect.runPromise(Effect.all(sessions, { concurrency: "unbounded" }))
  expect(waited).toHaveLength(13 * rounds)
  expect(Math.max(...waited)).toBeLessThanOrEqual(4) // three long prompts one after the other, and the call itself
})

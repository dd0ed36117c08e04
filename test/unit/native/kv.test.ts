// KV deltas that were changed on their way, and sessions that are used in any order: refused or harmless, never a crash.
import fc from "fast-check"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import type { Engine } from "../../../native/index.ts"
import { all, argmax, chain, expectSound, extend, head, load, partialShard, prompt } from "./shards.ts"

let engine: Engine
let other: Engine
let delta: Uint8Array
beforeAll(async () => {
  engine = await load()
  other = await load({ shard: partialShard })
  engine.open("s", argmax)
  await extend(engine, "s", prompt)
  delta = await engine.kvExport("s", 0, prompt.length)
  engine.close("s")
})
afterAll(async () => {
  expect(engine.sessions()).toEqual([])
  await expectSound(engine)
  engine.dispose()
  other.dispose()
})

/** The token after the prompt's last one, run anew on what was imported. */
const next = async (session: string) => {
  engine.truncate(session, prompt.length - 1)
  return (await extend(engine, session, prompt.subarray(-1))).tokens?.[0]
}

describe("a KV delta", () => {
  test("goes on where its session was, in one piece or in two", async () => {
    engine.open("s", argmax)
    await engine.kvImport("s", delta)
    expect([engine.committed("s"), engine.used("s")]).toEqual([prompt.length, prompt.length])
    expect(await next("s")).toBe(128)
    const parts = [await engine.kvExport("s", 0, 4), await engine.kvExport("s", 4, prompt.length)]
    engine.truncate("s", 0)
    for (const part of parts) await engine.kvImport("s", part)
    expect(await next("s")).toBe(128)
    expect((await engine.kvExport("s", 0, prompt.length)).length).toBe(
      8 + prompt.length * (4 + engine.bytesOfKvPerToken),
    )
    engine.close("s")
  })

  test("of another place, another shard or another length is refused", async () => {
    const words = (...values: ReadonlyArray<number>) => new Uint8Array(Int32Array.from(values).buffer)
    const cases = [
      [new Uint8Array(0), "bytes is too short for a KV delta"],
      [delta.subarray(0, 7), "bytes is too short for a KV delta"],
      [words(3, 10), "bytes begins at position 3; expected 0"],
      [words(-1, 10), "bytes begins at position -1; expected 0"],
      [words(0, -1), "bytes ends at position -1"],
      [words(0, 2 ** 31 - 1), "bytes ends at position 2147483647"],
      [words(0, 1), `bytes has 8 bytes; expected ${12 + engine.bytesOfKvPerToken}`],
      [delta.subarray(0, -1), `bytes has ${delta.length - 1} bytes; expected ${delta.length}`],
      [new Uint8Array([...delta, 0]), `bytes has ${delta.length + 1} bytes; expected ${delta.length}`],
    ] as const
    engine.open("s", argmax)
    for (const [bytes, message] of cases) {
      const refusal = expect.objectContaining({ name: "TypeError", code: "INVALID", message })
      await expect(engine.kvImport("s", bytes)).rejects.toThrow(refusal)
    }
    other.open("s", argmax)
    await expect(other.kvImport("s", delta)).rejects.toThrow(/^bytes has/)
    expect([engine.used("s"), other.used("s")]).toEqual([0, 0])
    for (const each of [engine, other]) each.close("s")
  })

  test("with any bytes changed is refused, or computes what it says", async () => {
    const change = fc.tuple(fc.nat(delta.length - 1), fc.constantFrom(0, 1, 0x7c, 0x7f, 0x80, 0xff))
    const places = fc.array(fc.oneof(change, fc.tuple(fc.nat(15), fc.nat(255))), { minLength: 1, maxLength: 200 })
    engine.open("s", { ...argmax, temperature: 1, topP: 0.5, repetitionPenalty: 1.2 })
    const property = fc.asyncProperty(places, async (changes) => {
      const bytes = delta.slice()
      for (const [index, value] of changes) bytes[index] = value
      const [imported] = await Promise.allSettled([engine.kvImport("s", bytes)])
      if (imported.status === "fulfilled") expect(await next("s")).toBeGreaterThanOrEqual(0)
      else expect(imported.reason).toMatchObject({ name: "TypeError", message: expect.stringMatching(/^bytes /) })
      engine.truncate("s", 0)
    })
    await fc.assert(property, { numRuns: 300 })
    engine.close("s")
  })
})

test("calls in any order, without waiting for one another", async () => {
  const session = fc.constantFrom("a", "b", "c")
  const number = fc.integer({ min: -1, max: 12 })
  const call = fc.record({
    method: fc.constantFrom(
      "open",
      "close",
      "begin",
      "run",
      "run",
      "end",
      "commit",
      "truncate",
      "export",
      "import",
      "abort",
    ),
    ...{ session, from: number, to: number, parents: fc.array(number, { minLength: 1, maxLength: 4 }) },
  })
  const property = fc.asyncProperty(fc.array(call, { minLength: 10, maxLength: 60 }), async (calls) => {
    const passes: Array<ReturnType<Engine["begin"]>> = []
    const promises: Array<Promise<unknown>> = []
    for (const name of ["a", "b"]) engine.open(name, argmax)
    const make = ({ method, session, from, to, parents }: (typeof calls)[number]): unknown => {
      const tokens = Int32Array.from(parents, (_, i) => 100 + i)
      const slots = engine.sessions().includes(session) ? engine.used(session) : 0
      const placed = from < 6 ? chain(slots, parents.length) : Int32Array.from(parents) // sound as often as not
      if (method === "open") return engine.open(session, argmax)
      if (method === "close") return engine.close(session)
      if (method === "begin") return passes.push(engine.begin([{ session, tokens, parents: placed }]))
      if (method === "run") return passes.at(from)?.run(to < 3 ? [{ op: "emit" }] : [{ op: "embed" }, all, head(0)])
      if (method === "end") return passes.at(from)?.end()
      if (method === "commit") return engine.commit(session, chain(engine.committed(session) + 1, parents.length))
      if (method === "truncate") return engine.truncate(session, to)
      if (method === "export") return engine.kvExport(session, from, to)
      if (method === "import") return engine.kvImport(session, delta)
      return engine.abort()
    }
    for (const each of calls) {
      try {
        const made = make(each)
        if (made instanceof Promise) promises.push(made)
      } catch (error) {
        expect(error).toBeInstanceOf(TypeError)
      }
    }
    for (const settled of await Promise.allSettled(promises)) {
      const failure = expect.objectContaining({ code: expect.stringMatching(/^(ABORTED|INVALID)$/) })
      if (settled.status === "rejected") expect(settled.reason).toEqual(failure)
    }
    for (const pass of passes) pass.end()
    for (const name of engine.sessions()) {
      const [committed, used] = [engine.committed(name), engine.used(name)]
      expect(0 <= committed && committed <= used).toBe(true)
      engine.close(name)
    }
    expect(engine.bytesOfKv()).toBe(0)
  })
  await fc.assert(property, { numRuns: 400 })
})

// Nothing that JavaScript can hand to the native module harms it: each call gives what it promises, or throws or rejects
// with an error that names the argument. Afterwards the engines still give the right tokens.
import fc from "fast-check"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { type Engine, native, type Op, type Pass } from "../../../native/index.ts"
import { spoilt, thrown } from "./junk.ts"
import { all, argmax, chain, expectSound, extend, load, model, optionsOf, partialShard, prompt } from "./shards.ts"

const { layers, width, vocab } = model.shape
let whole: Engine
let partial: Engine
beforeAll(async () => {
  whole = await load()
  partial = await load({ shard: partialShard })
})
afterAll(async () => {
  for (const engine of [whole, partial]) expect(engine.sessions()).toEqual([])
  await expectSound(whole)
  whole.dispose()
  partial.dispose()
})

const NAMES =
  /^(session|sampling|segments|slots|length|from|to|bytes|ops|options|shape|tensors|shard|device|threads|deterministic|kvType|progress|counter|key|logits|position|history|folder)\b/

/** Calls a method with whatever; its value, once it has settled, or the error that it threw or rejected with. */
const outcome = async (target: object, method: string, args: ReadonlyArray<unknown>) => {
  try {
    const call: unknown = Reflect.get(target, method)
    if (typeof call !== "function") return expect.unreachable(method)
    const value: unknown = await Reflect.apply(call, target, args)
    return { value, error: null }
  } catch (error) {
    return { value: null, error }
  }
}

/** Calls with arguments that may be wrong; the value, or null if they were refused in the way that they should be. */
const attempt = async (target: object, method: string, args: ReadonlyArray<unknown>): Promise<unknown> => {
  const { value, error } = await outcome(target, method, args)
  if (error === null) return value
  if (error !== thrown) expect(error).toEqual(wrong)
  return null
}
const isPass = (value: unknown): value is Pass => typeof value === "object" && value !== null && "run" in value
const isEngine = (value: unknown): value is Engine => typeof value === "object" && value !== null && "dispose" in value

const hidden = (rows: number) => new Uint8Array(rows * width * 4)
const segment = { session: "s", tokens: Int32Array.of(5, 6, 7), parents: Int32Array.of(9, 10, 10) }
const ofPass: ReadonlyArray<Op> = [
  { op: "receive", hidden: hidden(3) },
  { op: "layers", from: 3, to: 7 },
  { op: "attend", layers: [3, 4] },
  { op: "mlps", layers: [2, 3, 4], attended: [hidden(3), null, null], whole: false },
  { op: "emit" },
]
const candidates: Op = { op: "head", rows: Int32Array.of(0, 2), want: "candidates", k: 4 }

const wrong = expect.objectContaining({ name: "TypeError", message: expect.stringMatching(NAMES) })
/** What cannot be opened is no mistake in an argument, but the error names it all the same. */
const unreadable = expect.objectContaining({
  code: "FAILED",
  message: expect.stringMatching(/: (No such file|is no file|File name too long|cannot be mapped)/),
})

describe("one thing wrong, somewhere", () => {
  const calls: ReadonlyArray<readonly [string, ReadonlyArray<unknown>]> = [
    ["open", ["t", argmax]],
    ["close", ["s"]],
    ["used", ["s"]],
    ["committed", ["s"]],
    ["begin", [[segment, { session: "other", tokens: Int32Array.of(1), parents: Int32Array.of(-1) }]]],
    ["commit", ["s", Int32Array.of(10, 11)]],
    ["truncate", ["s", 4]],
    ["kvExport", ["s", 2, 9]],
    ["kvImport", ["s", new Uint8Array(500)]],
  ]
  test.each(calls)("Engine.%s", async (method, valid) => {
    for (const engine of [whole, partial]) {
      const fresh = () => {
        for (const name of ["s", "other"]) engine.open(name, argmax)
        const pass = engine.begin([{ session: "s", tokens: prompt, parents: chain(0, prompt.length) }])
        return pass.end()
      }
      const property = fc.asyncProperty(spoilt(valid), async (args) => {
        fresh()
        await engine.commit("s", Int32Array.from(prompt.keys()))
        engine.begin([{ session: "s", tokens: Int32Array.of(1, 2), parents: Int32Array.of(9, 10) }]).end()
        const value = await attempt(engine, method, args)
        if (isPass(value)) value.end()
        for (const name of engine.sessions()) engine.close(name)
      })
      await fc.assert(property, { numRuns: 1000 })
    }
  })

  test("Pass.run", async () => {
    for (const [engine, ops] of [
      [whole, [...ofPass, candidates]],
      [partial, ofPass],
    ] as const) {
      engine.open("s", argmax)
      const pass = engine.begin([{ ...segment, parents: Int32Array.of(-1, 0, 0) }])
      const property = fc.asyncProperty(spoilt([ops]), async (args) => void (await attempt(pass, "run", args)))
      await fc.assert(property, { numRuns: 3000 })
      pass.end()
      engine.close("s")
    }
  })

  test("sample and philox", async () => {
    const sample = [Float32Array.of(1, 2, 3), { ...argmax, temperature: 0.7, topK: 2, minP: 0.1 }, 4, Int32Array.of(1)]
    await fc.assert(
      fc.asyncProperty(spoilt(sample), async (args) => {
        const token = await attempt(native, "sample", args)
        if (token !== null) expect(token).toBeGreaterThanOrEqual(0)
      }),
      { numRuns: 1000 },
    )
    const philox = [Uint32Array.of(1, 2, 3, 4), Uint32Array.of(5, 6)]
    await fc.assert(
      fc.asyncProperty(spoilt(philox), async (args) => void (await attempt(native, "philox", args))),
      { numRuns: 500 },
    )
  })

  test("load", async () => {
    const options = optionsOf({ threads: 2, shard: { ...partialShard, attention: [3], mlp: [3] } })
    const needed = options.tensors.filter(({ name }) => name.startsWith("blk.3."))
    const property = fc.asyncProperty(spoilt([{ ...options, tensors: needed }, () => {}]), async (args) => {
      const { value, error } = await outcome(native, "load", args)
      if (isEngine(value)) value.dispose()
      if (error !== null && error !== thrown) expect([wrong, unreadable]).toContainEqual(error)
    })
    await fc.assert(property, { numRuns: 1500 })
  })
})
describe("steps in any order, with any numbers", () => {
  const layer = fc.integer({ min: -1, max: layers })
  const some = fc.array(layer, { maxLength: 4 })
  const bytes = fc.oneof(
    fc.constant(hidden(2)),
    fc.constant(null),
    fc.constant(new Uint8Array(7)),
    fc
      .array(fc.float(), { minLength: 2 * width, maxLength: 2 * width })
      .map((all) => new Uint8Array(Float32Array.from(all).buffer)),
  )
  const op = fc.oneof(
    fc.constant({ op: "embed" }),
    bytes.map((hidden) => ({ op: "receive", hidden })),
    fc.record({ op: fc.constant("layers"), from: layer, to: layer }),
    some.map((layers) => ({ op: "attend", layers })),
    fc.record({
      op: fc.constant("mlps"),
      layers: some,
      attended: fc.array(bytes, { maxLength: 4 }),
      whole: fc.boolean(),
    }),
    some.chain((layers) =>
      fc
        .array(bytes, { minLength: layers.length, maxLength: layers.length })
        .map((attended) => ({ op: "mlps", layers, attended })),
    ),
    fc.constant({ op: "emit" }),
    fc.record({
      op: fc.constant("head"),
      rows: fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: 3 }).map((rows) => Int32Array.from(rows)),
      want: fc.constantFrom("tokens", "candidates", "logits", "more"),
      k: fc.constantFrom(0, 1, 5, 1024, vocab, vocab + 1),
    }),
  )

  test("and hidden states with anything in them", async () => {
    for (const engine of [whole, partial]) {
      const property = fc.asyncProperty(
        fc.array(fc.array(op, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 4 }),
        fc.constantFrom(0, 0.8),
        async (stretches, temperature) => {
          engine.open("s", { ...argmax, temperature, topP: 0.9, repetitionPenalty: 1.1 })
          const pass = engine.begin([{ session: "s", tokens: Int32Array.of(1, 2), parents: Int32Array.of(-1, -1) }])
          await Promise.all(stretches.map((ops) => attempt(pass, "run", [ops])))
          pass.end()
          engine.close("s")
        },
      )
      await fc.assert(property, { numRuns: 600 })
    }
  })

  test("as many as anyone may ask for", async () => {
    whole.open("s", argmax)
    const pass = whole.begin([{ session: "s", tokens: prompt, parents: chain(0, prompt.length) }])
    const message = /^ops: expected (less work|at most 4096 elements)/
    for (const count of [500, 4096, 4097, 100_000]) {
      const { error } = await outcome(pass, "run", [[{ op: "embed" }, ...Array<Op>(count - 1).fill(all)]])
      if (count > 500) expect(error).toMatchObject({ name: "TypeError", message: expect.stringMatching(message) })
    }
    pass.end()
    whole.close("s")
  })

  test("for as many sessions as a pass has rows", async () => {
    const names = Array.from({ length: whole.maxRows }, (_, i) => `s${i}`)
    const one = { tokens: Int32Array.of(362), parents: Int32Array.of(-1) }
    for (const name of names) whole.open(name, argmax)
    const pass = whole.begin(names.map((session) => ({ session, ...one })))
    const rows = Int32Array.from(names.keys())
    const together = await pass.run([{ op: "embed" }, all, { op: "head", rows, want: "tokens" }])
    pass.end()
    whole.truncate("s0", 0)
    expect(new Set(together.tokens)).toEqual(new Set((await extend(whole, "s0", Int32Array.of(362))).tokens))
    for (const name of names) whole.close(name)
  })
})

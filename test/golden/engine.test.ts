// The engine's numbers against programs that are not ours. The demo pair against EasySpec's schedule in float32 PyTorch; the
// GGUF models against llama.cpp, as built for the machine that made the reference (`native`) and in the ready-built libraries
// that the engine computes with (`icelake`, f16 KV, flash attention, weights not repacked).
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { groupOps } from "../../src/rank/strategy/strategy.ts"
import { fuzzy } from "../../src/speculation/schedule.ts"
import { howToGet, isMissing, type Weights, weights } from "../weights.ts"
import { append, argmax, GREEDY, golden, head, line, load, run, type Subject } from "./engines.ts"

type Scored = readonly [token: number, logit: number]
type Best = ReadonlyArray<Scored>

interface DemoRow {
  readonly tokens: ReadonlyArray<number>
  readonly greedy: ReadonlyArray<number>
  readonly top5: ReadonlyArray<Best> // of the first steps
  readonly fuzzy: ReadonlyArray<{
    readonly n: number
    readonly hidden: ReadonlyArray<ReadonlyArray<number>> // the first numbers of each row
    readonly top5: ReadonlyArray<Best>
  }>
}

interface LlamaRow {
  readonly tokens: ReadonlyArray<number>
  readonly greedy: ReadonlyArray<number>
  readonly native: ReadonlyArray<Best> // of the first steps
  readonly icelake: ReadonlyArray<Best>
}

const distance = (logits: Float32Array, best: Best): number =>
  Math.max(...best.map(([token, logit]) => Math.abs((logits[token] ?? Number.NaN) - logit)))

const margin = ([first, second]: Best): number => (first?.[1] ?? Number.NaN) - (second?.[1] ?? Number.NaN)

/** How far a token lies behind the best one. */
const behind = (logits: Float32Array, token: number): number =>
  (logits[argmax(logits)] ?? Number.NaN) - (logits[token] ?? Number.NaN)

const FORMS = [
  { name: "base", type: "f32" },
  { name: "draft", type: "f32" },
  { name: "base", type: "bf16" },
  { name: "draft", type: "bf16" },
] as const

for (const { name, type } of FORMS) {
  describe(`demo ${name} in ${type}`, () => {
    // The reference computes in f32; with bf16 weights the kernels narrow the activations as well.
    const tolerance = type === "f32" ? { logits: 1e-3, hidden: 1e-4 } : { logits: 0.1, hidden: 0.02 }
    const rows = golden<Record<string, ReadonlyArray<DemoRow>>>("engine-demo.json")[name] ?? []
    let subject: Subject
    beforeAll(async () => {
      subject = await load(`models/demo/${name}`, type === "f32" ? { widen: true, kvType: "f32" } : {})
    })
    afterAll(() => subject.engine.dispose())

    test("greedy tokens and logits are PyTorch's", async () => {
      expect(rows.length).toBeGreaterThan(0)
      for (const { tokens, greedy, top5 } of rows) {
        subject.engine.open("s", GREEDY)
        let next = tokens
        for (const [step, token] of greedy.entries()) {
          const logits = await append(subject, "s", next)
          const best = top5[step]
          if (best !== undefined) expect(distance(logits, best)).toBeLessThan(tolerance.logits)
          if (best === undefined || margin(best) < tolerance.logits)
            expect(behind(logits, token)).toBeLessThan(tolerance.logits)
          else expect(argmax(logits)).toBe(token)
          next = [token]
        }
        subject.engine.close("s")
      }
    })

    test.each([1, 2, 3, 4, 5])("a fuzzy pass in groups of %i has PyTorch's hidden states and logits", async (n) => {
      const { engine, layers, width, vocab } = subject
      for (const { tokens, greedy, fuzzy: passes } of rows) {
        const reference = passes.find((pass) => pass.n === n)
        engine.open("s", GREEDY)
        await append(subject, "s", tokens)
        const drafted = line(engine, "s", greedy.slice(0, 3))
        const schedule = fuzzy(layers, n).flatMap(groupOps)
        const result = await run(engine, [drafted], [{ op: "embed" }, ...schedule, { op: "emit" }, head([0, 1, 2])])
        engine.close("s")
        const hidden = new Float32Array(result.hiddens[0]?.slice().buffer ?? new ArrayBuffer())
        for (const row of [0, 1, 2]) {
          const numbers = reference?.hidden[row] ?? []
          const off = numbers.map((value, i) => Math.abs((hidden[row * width + i] ?? Number.NaN) - value))
          expect(numbers.length).toBeGreaterThan(0)
          expect(Math.max(...off)).toBeLessThan(tolerance.hidden * Math.max(...numbers.map(Math.abs)))
          const logits = (result.logits ?? new Float32Array()).subarray(row * vocab, (row + 1) * vocab)
          expect(distance(logits, reference?.top5[row] ?? [])).toBeLessThan(tolerance.logits)
        }
      }
    })
  })
}

for (const name of ["smollm2", "coder-0.5b", "coder-1.5b"] as const satisfies ReadonlyArray<Weights>) {
  describe.skipIf(isMissing(name))(`${name}${howToGet(name)}`, () => {
    const rows = golden<Record<string, ReadonlyArray<LlamaRow>>>("engine-llama.json")[name] ?? []
    // One rounding that falls the other way, in another build of the same kernels, flips 8-bit activations behind it: the
    // two llama.cpps are up to 0.5 apart, and so each has a best token now and then that the other has close behind. Attention
    // and K types have kernels of our own here, with other roundings: the mean of the largest difference
    // of a step's logits to those with KV in f32 is 0.67 for smollm2, and 0.68 with ggml's attention.
    const NOISE = 1.2
    const TIE = 0.2
    let subject: Subject
    beforeAll(async () => {
      subject = await load(weights(name))
    })
    afterAll(() => subject.engine.dispose())

    test("greedy tokens and logits are llama.cpp's", async () => {
      let [steps, ties] = [0, 0]
      for (const { tokens, greedy, native, icelake } of rows) {
        subject.engine.open("s", GREEDY)
        let next = tokens
        for (const [step, token] of greedy.entries()) {
          const logits = await append(subject, "s", next)
          const [same = [], other = []] = [icelake[step], native[step]]
          expect(distance(logits, [...same, ...other])).toBeLessThan(NOISE)
          if (argmax(logits) !== token) {
            ties++
            expect(behind(logits, token)).toBeLessThan(TIE)
          }
          steps++
          next = [token] // the reference's, whichever won here
        }
        subject.engine.close("s")
      }
      if (ties > 0) console.info(`${name}: ${ties} of ${steps} greedy tokens were ties that fell the other way`)
      expect(ties).toBeLessThanOrEqual(steps / 10)
    })
  })
}

// The adaptive control on simulated machines: it comes near the best fixed tree where drafting pays, and near plain
// decoding where it does not. Time is simulated; chance is drawn from a seed.
import fc from "fast-check"
import { expect, test } from "vitest"
import { type Adaptive, choose, initial, measured, observe, primes } from "../../../src/speculation/adaptive.ts"
import { nodesOf, type TreeShape } from "../../../src/speculation/tree.ts"

interface Machine {
  readonly verify: (rows: number) => number
  readonly calibrate: (rows: number) => number
  readonly step: (rows: number) => number
  readonly between: number // millis of an iteration outside its passes
  readonly accept: (depth: number, width: number) => number
}
type Moment = (token: number) => Machine

const limits = { depth: 8, width: 4, nodes: 32 }
/** mulberry32: seeded, and good enough to draw acceptance. */
const chanceFrom = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

interface Options {
  readonly tokens: number
  readonly seed: number
  readonly pending: number
  readonly from: Adaptive
}
interface Run {
  readonly millis: number
  readonly state: Adaptive
  readonly shapes: ReadonlyArray<TreeShape | null>
}

/** Generates until there are `tokens`; the draft's KV lacks `pending` tokens, and what was generated without it. */
const generate = (
  moment: Moment,
  { tokens = 400, seed = 1, pending = 1, from = initial(limits) }: Partial<Options> = {},
): Run => {
  const chance = chanceFrom(seed)
  let [state, millis, lacking] = [from, 0, pending]
  const shapes: Array<TreeShape | null> = []
  for (let made = 0; made < tokens; ) {
    const machine = moment(made)
    const shape = choose(state, lacking, tokens - made)
    shapes.push(shape)
    const run = (rows: number, cost: (rows: number) => number) => ({
      rows,
      millis: cost(rows) * (0.95 + 0.1 * chance()),
    })
    const verify = [run(1 + (shape === null ? 0 : nodesOf(shape)), machine.verify)]
    const calibrate = shape === null ? [] : [run(lacking, machine.calibrate)]
    const steps = Array.from({ length: (shape?.depth ?? 1) - 1 }, () => run(shape?.width ?? 1, machine.step))
    let accepted = 0
    while (shape !== null && accepted < shape.depth && chance() < machine.accept(accepted + 1, shape.width)) accepted++
    const took = [...verify, ...calibrate, ...steps].reduce((sum, pass) => sum + pass.millis, machine.between)
    state = observe(state, { shape, accepted, millis: took, verify, calibrate, steps })
    millis += took
    made += accepted + 1
    lacking = shape === null ? lacking + 1 : accepted + 1
  }
  return { millis, state, shapes }
}

const seeds = [1, 2, 3, 4, 5, 6, 7, 8]
const mean = (moment: Moment, options: Partial<Options> = {}) =>
  seeds.reduce((sum, seed) => sum + generate(moment, { ...options, seed }).millis, 0) / seeds.length

/** Milliseconds a token with one tree throughout, expected; the machines' costs are linear, so means go in. */
const perToken = (machine: Machine, { depth, width, nodes }: TreeShape): number => {
  let [reached, expected] = [1, 1]
  for (let d = 1; d <= depth; d++) {
    reached *= machine.accept(d, width)
    expected += reached
  }
  const steps = (depth - 1) * machine.step(width)
  return (machine.calibrate(expected) + steps + machine.verify(1 + nodes) + machine.between) / expected
}
const bestFixed = (machine: Machine): number =>
  Math.min(
    ...[1, 2, 4].flatMap((width) =>
      Array.from({ length: limits.depth }, (_, i) =>
        perToken(machine, { depth: i + 1, width, nodes: nodesOf({ depth: i + 1, width, nodes: width * (i + 1) }) }),
      ),
    ),
  )
const plainly = (machine: Machine): number => machine.verify(1) + machine.between

const deeper = (first: number, fall: number) => (depth: number, width: number) =>
  1 - (1 - first * fall ** (depth - 1)) / Math.sqrt(width)

const processor: Machine = {
  verify: (rows) => 60 + 12 * rows,
  calibrate: (rows) => 6 + 2 * rows,
  step: (rows) => 6 + 2 * rows,
  between: 1,
  accept: deeper(0.85, 0.99),
}
const graphics: Machine = {
  verify: (rows) => 20 + 0.05 * rows,
  calibrate: (rows) => 2 + 0.01 * rows,
  step: (rows) => 2 + 0.01 * rows,
  between: 0.5,
  accept: deeper(0.7, 0.95),
}
const slowDraft: Machine = { ...processor, calibrate: (rows) => 40 + 4 * rows, step: (rows) => 40 + 4 * rows }
const poorDraft: Machine = { ...processor, accept: () => 0.1 }
const goodDraft: Machine = { ...processor, accept: deeper(0.95, 1) }

test.each([
  ["a processor, where chains pay", processor],
  ["a graphics processor, where wide trees pay", graphics],
])("%s: at least 0.95x of the best fixed tree", (_, machine) => {
  const tokens = 400
  expect(bestFixed(machine)).toBeLessThan(0.8 * plainly(machine))
  expect((tokens * bestFixed(machine)) / mean(() => machine, { tokens })).toBeGreaterThan(0.95)
})

test.each([
  ["a draft as slow as its base", slowDraft],
  ["a draft that is never right", poorDraft],
])("%s: at least 0.97x of plain decoding", (_, machine) => {
  for (const tokens of [100, 400])
    for (const pending of [1, 20, 200])
      expect((tokens * plainly(machine)) / mean(() => machine, { tokens, pending })).toBeGreaterThan(0.97)
})

test("a draft that grows slow midway is dropped, and one that grows fast is found", () => {
  const slow = { ...goodDraft, calibrate: (rows: number) => 80 + 0.5 * rows, step: () => 80 }
  const fast = { ...goodDraft, calibrate: (rows: number) => 6 + 0.5 * rows }
  const best = 200 * (bestFixed(fast) + plainly(slow))
  const prompt = (cost: (rows: number) => number) => [{ rows: 64, millis: cost(64) }]
  const after = ({ verify, calibrate }: Machine) =>
    measured(initial(limits), { verify: prompt(verify), calibrate: prompt(calibrate), steps: [] })
  expect(best / mean((token) => (token < 200 ? fast : slow), { from: after(fast) })).toBeGreaterThan(0.88)
  expect(best / mean((token) => (token < 200 ? slow : fast), { from: after(slow) })).toBeGreaterThan(0.78)
})

test("acceptance that changes with the text: much faster than plain decoding, and never far behind what is best", () => {
  const texts: Moment = (token) => (Math.floor(token / 100) % 2 === 0 ? goodDraft : poorDraft)
  const millis = mean(texts)
  expect((400 * plainly(poorDraft)) / millis).toBeGreaterThan(1.08)
  expect((200 * (bestFixed(goodDraft) + plainly(poorDraft))) / millis).toBeGreaterThan(0.78)
})

/** Sessions of one deployment, one after the other, each with a prompt of 150 tokens and 100 to generate. */
const deployment = (machine: Machine, sessions: number) => {
  let state = initial(limits)
  let [millis, prefilled] = [0, 0]
  for (let seed = 0; seed < sessions; seed++) {
    state = initial(limits, state.known)
    const draft = primes(state, 150)
    const prompt = (cost: (rows: number) => number) => ({ rows: 150, millis: cost(150) })
    const calibrate = draft ? [prompt(machine.calibrate)] : []
    state = measured(state, { verify: [prompt(machine.verify)], calibrate, steps: [] })
    const run = generate(() => machine, { tokens: 100, seed, from: state, pending: draft ? 1 : 151 })
    state = run.state
    millis += run.millis + machine.verify(150) + (draft ? machine.calibrate(150) : 0)
    prefilled += draft ? 1 : 0
  }
  const plain = sessions * (100 * plainly(machine) + machine.verify(150))
  return { speed: plain / millis, prefilled }
}

test.each([slowDraft, poorDraft])("a deployment's sessions stop to prefill a draft that does not pay", (machine) => {
  const { speed, prefilled } = deployment(machine, 10)
  expect(prefilled).toBeLessThanOrEqual(2)
  expect(speed).toBeGreaterThan(0.97)
})

test("a deployment's sessions prefill a draft that pays", () => {
  const { speed, prefilled } = deployment(processor, 10)
  expect(prefilled).toBe(10)
  expect(speed).toBeGreaterThan(1.3)
})

const millis = (most: number) => fc.integer({ min: 1, max: most * 10 }).map((tenths) => tenths / 10)
const anyMachine = fc.record({
  ...{ base: millis(100), row: millis(20) },
  ...{ draft: fc.integer({ min: 1, max: 120 }), draftRow: fc.integer({ min: 1, max: 60 }) }, // percent of the base's
  ...{ first: fc.integer({ min: 0, max: 100 }), fall: fc.integer({ min: 50, max: 100 }) }, // percent
})
const machineOf = ({
  base,
  row,
  draft,
  draftRow,
  first,
  fall,
}: typeof anyMachine extends fc.Arbitrary<infer A> ? A : never): Machine => ({
  verify: (rows) => base + row * rows,
  calibrate: (rows) => (draft * base + draftRow * row * rows) / 100,
  step: (rows) => (draft * base + draftRow * row * rows) / 100,
  between: 0.1,
  accept: deeper(first / 100, fall / 100),
})

test("on any machine: never much slower than plain decoding, trees within the limits, and the same again", () => {
  fc.assert(
    fc.property(anyMachine, fc.integer(), fc.integer({ min: 1, max: 10 }), (parts, seed, pending) => {
      const machine = machineOf(parts)
      const run = generate(() => machine, { seed, pending })
      expect(400 * plainly(machine)).toBeGreaterThan(0.95 * run.millis)
      for (const shape of run.shapes.filter((shape) => shape !== null)) {
        expect(shape.depth).toBeGreaterThanOrEqual(1)
        expect(shape.depth).toBeLessThanOrEqual(limits.depth)
        expect(shape.width).toBeLessThanOrEqual(limits.width)
        expect(shape.nodes).toBeLessThanOrEqual(limits.nodes)
      }
      expect(generate(() => machine, { seed, pending })).toEqual(run)
    }),
    { numRuns: 40 },
  )
})

test("the first iterations are plain ones, and so is the last token", () => {
  expect(generate(() => processor).shapes.slice(0, 2)).toEqual([null, null])
  const { state } = generate(() => processor)
  expect(choose(state, 1, 1)).toBeNull()
  expect(choose(state, 1, 3)?.depth).toBeLessThanOrEqual(2)
})

test("plain steps in one burst count like as many iterations", () => {
  const { state } = generate(() => processor, { tokens: 40 })
  const step = { rows: 1, millis: 72 }
  const plain = { shape: null, accepted: 0, calibrate: [], steps: [] }
  const burst = observe(state, { ...plain, millis: 4 * 73, verify: [step, step, step, step] })
  const single = { ...plain, millis: 73, verify: [step] }
  const singles = [single, single, single, single].reduce(observe, state)
  expect(burst.tokens).toBe(singles.tokens)
  expect(burst.known.quiet).toBe(singles.known.quiet)
  expect(burst.known.spent).toBeCloseTo(singles.known.spent)
  expect(burst.known.costs).toEqual(singles.known.costs)
  for (const [d, { hits, tries }] of (burst.acceptance[1] ?? []).entries()) {
    expect(hits).toBeCloseTo(singles.acceptance[1]?.[d]?.hits ?? Number.NaN)
    expect(tries).toBeCloseTo(singles.acceptance[1]?.[d]?.tries ?? Number.NaN)
  }
})

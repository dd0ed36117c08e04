// The cost model against closed forms: with free links only blocks count, with free blocks only links do, and one rank is
// one rank whatever the strategy.
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import type { Blocks } from "../../../src/planner/blocks.ts"
import { passOf } from "../../../src/planner/cost.ts"
import { A100_8, type Hardware, withDevices } from "../../../src/planner/hardware.ts"
import { LLAMA_3 } from "../../../src/planner/models.ts"
import type { Division } from "../../../src/planner/strategies.ts"
import { layer } from "../../../src/rank/strategy/layer.ts"
import { fuzzy, hopsExact, hopsFuzzy } from "../../../src/speculation/schedule.ts"

const [EMBED, ATTENTION, MLP, HEAD, STRETCH] = [3, 5, 7, 11, 0.25]

/** Blocks that share their work evenly. */
const even: Blocks = {
  embed: () => EMBED,
  attention: (_, __, parts) => ATTENTION / parts,
  mlp: (_, parts) => MLP / parts,
  head: (_, parts) => HEAD / parts,
  stretch: 0,
}
const none: Blocks = { embed: () => 0, attention: () => 0, mlp: () => 0, head: () => 0, stretch: 0 }

const linked = (latencySeconds: number, ranks: number): Hardware => {
  const link = { latencySeconds, bytesPerSecond: Number.POSITIVE_INFINITY, multicast: false }
  const [machine] = A100_8.machines
  if (machine === undefined) throw new Error("A100_8 has a machine")
  return withDevices({ ...A100_8, machines: [{ ...machine, within: link }], between: link }, ranks)
}

const modelOf = (layers: number) => ({ ...LLAMA_3.draft, layers })
const shape = { rows: 1, context: 512 }
const layerOf = (ranks: number, n: number, split: boolean): Division => ({ strategy: "layer", ranks, n, split })
const groupsOf = (layers: number, n: number) => fuzzy(layers, n).length - 2

const sizes = fc.record({
  layers: fc.integer({ min: 4, max: 40 }),
  ranks: fc.integer({ min: 1, max: 9 }),
  n: fc.integer({ min: 2, max: 9 }),
})

describe("one rank", () => {
  const single = passOf({ strategy: "single" }, LLAMA_3.draft, A100_8, shape)

  test.each<Division>([
    { strategy: "pipeline", ranks: 1 },
    { strategy: "tensor", ranks: 1 },
    layerOf(1, 1, false),
    layerOf(1, 4, false),
    layerOf(1, 1, true),
    layerOf(1, 4, true),
  ])("%j is single", (division) => {
    const pass = passOf(division, LLAMA_3.draft, A100_8, shape)
    expect(pass.seconds).toBeCloseTo(single.seconds, 9)
    expect(pass.messages).toBe(0)
  })
})

describe("links that take no time", () => {
  test("tensor has a part of everything on each rank", () => {
    const { seconds } = passOf({ strategy: "tensor", ranks: 4 }, modelOf(10), linked(0, 4), shape, even)
    expect(seconds).toBeCloseTo(EMBED + (10 * (ATTENTION + MLP) + HEAD) / 4, 9)
  })

  test("an exact pass takes what one rank takes", () => {
    fc.assert(
      fc.property(sizes, fc.boolean(), ({ layers, ranks, n }, fuzzily) => {
        const division = layerOf(ranks, fuzzily ? n : 1, false)
        const { seconds } = passOf(division, modelOf(layers), linked(0, ranks), { ...shape, exact: true }, even)
        expect(seconds).toBeCloseTo(EMBED + layers * (ATTENTION + MLP) + HEAD, 9)
      }),
    )
  })

  test("a fuzzy pass has the attention of each group's most loaded rank, and split MLPs and head in parts", () => {
    fc.assert(
      fc.property(sizes, ({ layers, ranks, n }) => {
        const owners = layer.owners(layers, ranks, n)
        const longest = fuzzy(layers, n).map((group) =>
          Math.max(...owners.map((owner) => group.filter((layer) => owners[layer] === owner).length)),
        )
        const attention = ATTENTION * longest.reduce((sum, count) => sum + count, 0)
        const pass = (split: boolean) =>
          passOf(layerOf(ranks, n, split), modelOf(layers), linked(0, ranks), shape, even).seconds
        expect(pass(false)).toBeCloseTo(EMBED + attention + layers * MLP + HEAD, 9)
        expect(pass(true)).toBeCloseTo(EMBED + attention + (layers * MLP + HEAD) / ranks, 9)
      }),
    )
  })
})

describe("blocks that take no time", () => {
  test("tensor takes two hops a layer and one for the head", () => {
    const pass = passOf({ strategy: "tensor", ranks: 4 }, modelOf(10), linked(1, 4), shape, none)
    expect(pass).toMatchObject({ seconds: 21, hops: 21 })
  })

  test("with MLPs and head split, a fuzzy pass takes a hop a layer, one a group and one for the head", () => {
    fc.assert(
      fc.property(sizes, ({ layers, ranks, n }) => {
        fc.pre(ranks > 1 && (layers - 2) % n !== 1) // a group of one layer has one sender, whom nobody delays
        const hops = layers + groupsOf(layers, n) + 1
        const pass = passOf(layerOf(ranks, n, true), modelOf(layers), linked(1, ranks), shape, none)
        expect(pass).toMatchObject({ hops, seconds: hops })
      }),
    )
  })

  test("hops are the schedule's", () => {
    fc.assert(
      fc.property(sizes, ({ layers, ranks, n }) => {
        const owners = layer.owners(layers, ranks, n)
        const pass = (exact: boolean) =>
          passOf(layerOf(ranks, n, false), modelOf(layers), linked(1, ranks), { ...shape, exact }, none)
        expect(pass(true)).toMatchObject({ hops: hopsExact(owners), seconds: hopsExact(owners) })
        expect(pass(false).hops).toBe(hopsFuzzy(fuzzy(layers, n), owners))
      }),
    )
  })

  test("of a fuzzy pass on two ranks, every second hop is on its way while the other rank's is", () => {
    const groups = groupsOf(30, 4) // 7
    const { seconds } = passOf(layerOf(2, 4, false), modelOf(30), linked(1, 2), shape, none)
    expect(seconds).toBe(2 * Math.ceil(groups / 2))
  })
})

test("each stretch between two hops costs a call", () => {
  const blocks = { ...even, stretch: STRETCH }
  const owners = layer.owners(12, 3, 4)
  const { seconds } = passOf(layerOf(3, 4, false), modelOf(12), linked(0, 3), { ...shape, exact: true }, blocks)
  expect(seconds).toBeCloseTo(EMBED + 12 * (ATTENTION + MLP) + HEAD + (hopsExact(owners) + 1) * STRETCH, 9)
})

test("a link that is slower makes no pass quicker", () => {
  fc.assert(
    fc.property(
      sizes,
      fc.boolean(),
      fc.double({ min: 0, max: 1, noNaN: true }),
      ({ layers, ranks, n }, split, more) => {
        const pass = (latency: number) =>
          passOf(layerOf(ranks, n, split), modelOf(layers), linked(latency, ranks), shape, even).seconds
        expect(pass(0.5 + more)).toBeGreaterThanOrEqual(pass(0.5))
      },
    ),
  )
})

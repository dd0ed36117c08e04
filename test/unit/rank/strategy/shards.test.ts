// Shards: together they are the whole model, whatever the strategy, and each rank has what its passes need.
import fc from "fast-check"
import { expect, test } from "vitest"
import { describeShard } from "../../../../src/rank/strategy/shards.ts"
import { ownersOf, shardsOf } from "../../../../src/rank/strategy/strategies.ts"
import { hopsExact } from "../../../../src/speculation/schedule.ts"

const splits = fc.record({
  layers: fc.integer({ min: 2, max: 40 }),
  n: fc.integer({ min: 1, max: 6 }),
  strategy: fc.constantFrom("pipeline" as const, "layer" as const),
  ranks: fc.integer({ min: 1, max: 4 }),
})

test("every layer's attention, and its KV, is on exactly one rank; one embeds, one has the head", () => {
  fc.assert(
    fc.property(splits, ({ layers, n, ...split }) => {
      fc.pre(layers >= split.ranks)
      const shards = shardsOf(split, { layers }, n)
      const all = Array.from({ length: layers }, (_, layer) => layer)
      expect(shards.flatMap(({ attention }) => attention).sort((a, b) => a - b)).toEqual(all)
      for (const { attention, mlp } of shards) expect(attention.filter((layer) => !mlp.includes(layer))).toEqual([])
      expect(shards.map(({ embed }) => embed)).toEqual(shards.map((_, rank) => rank === 0))
      expect(shards.filter(({ head }) => head).length).toBe(1)
    }),
  )
})

test("a pipeline's ranks have consecutive layers, as many each as can be", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 8 }), (layers, ranks) => {
      fc.pre(layers >= ranks)
      const owners = ownersOf({ strategy: "pipeline", ranks }, layers, 4)
      expect(owners).toEqual([...owners].sort((a, b) => a - b))
      const counts = Array.from({ length: ranks }, (_, rank) => owners.filter((owner) => owner === rank).length)
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1)
    }),
  )
})

test("under `layer` rank 0 owns the first and the last layer and the head, and all hold the MLPs between", () => {
  fc.assert(
    fc.property(splits, ({ layers, n, ranks }) => {
      const [leader, ...others] = shardsOf({ strategy: "layer", ranks }, { layers }, n)
      expect([leader?.attention[0], leader?.attention.at(-1)]).toEqual([0, layers - 1])
      expect([leader?.head, leader?.mlp.length]).toEqual([true, layers])
      for (const { mlp } of others) expect(mlp.length).toBe(layers - 2)
    }),
  )
})

test("under `layer` a draft that is exact hands h on as often as it has ranks, and no more", () => {
  fc.assert(
    fc.property(splits, ({ layers, ranks }) => {
      fc.pre(layers >= ranks + 2)
      const owners = ownersOf({ strategy: "layer", ranks }, layers, 1)
      expect(hopsExact(owners)).toBe(ranks === 1 ? 0 : ranks)
    }),
  )
})

test("a shard in words", () => {
  const shard = { attention: [0, 1, 2, 3, 8], mlp: [0, 1, 2], embed: true, head: true }
  expect(describeShard(shard)).toBe("attention 0-3,8; mlp 0-2; embed; head")
  expect(describeShard({ attention: [], mlp: [5], embed: false, head: false })).toBe("attention none; mlp 5")
})

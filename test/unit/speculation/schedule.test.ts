// The fuzzy schedule and the ranks that hold its layers: properties for every size, and hops counted by walking.
import fc from "fast-check"
import { expect, test } from "vitest"
import { exact, fuzzy, hopsExact, hopsFuzzy, owners, type Schedule } from "../../../src/speculation/schedule.ts"

const layers = fc.integer({ min: 2, max: 80 })
const n = fc.integer({ min: 1, max: 9 })
const ranks = fc.integer({ min: 1, max: 9 })
const check = (predicate: (layers: number, n: number, ranks: number) => void) =>
  fc.assert(fc.property(layers, n, ranks, predicate), { numRuns: 1000 })
const ascending = (count: number) => Array.from({ length: count }, (_, i) => i)

test("the paper's example, and models too small for it", () => {
  expect(fuzzy(8, 4)).toEqual([[0], [1, 2, 3, 4], [5, 6], [7]])
  expect(fuzzy(2, 4)).toEqual([[0], [1]])
  expect(fuzzy(1, 4)).toEqual([[0]])
  expect(exact(3)).toEqual([[0], [1], [2]])
})

test("every layer is run once, in order; the first and the last alone; the others in groups of n and a rest", () => {
  check((layers, n) => {
    const schedule = fuzzy(layers, n)
    const sizes = schedule.map((group) => group.length)
    expect(schedule.flat()).toEqual(ascending(layers))
    expect([sizes[0], sizes.at(-1)]).toEqual([1, 1])
    for (const size of sizes.slice(1, -2)) expect(size).toBe(n)
    const rest = sizes.slice(1, -1).at(-1) ?? 1
    expect(1 <= rest && rest <= n).toBe(true)
    expect(schedule.length).toBe(2 + Math.ceil((layers - 2) / n))
  })
})

test("groups of one are exact", () => {
  check((layers) => {
    expect(fuzzy(layers, 1)).toEqual(exact(layers))
  })
})

const held = (owners: ReadonlyArray<number>, ranks: number) =>
  ascending(ranks).map((rank) => owners.filter((owner) => owner === rank).length)

test("every layer has an owner; rank 0 owns the first and the last", () => {
  check((layers, n, ranks) => {
    const of = owners(fuzzy(layers, n), ranks)
    expect(of.length).toBe(layers)
    expect(of.every((rank) => Number.isInteger(rank) && 0 <= rank && rank < ranks)).toBe(true)
    expect([of[0], of.at(-1)]).toEqual([0, 0])
  })
})

test("every rank owns a layer where there are enough, and no two differ by more than two", () => {
  check((layers, n, ranks) => {
    const counts = held(owners(fuzzy(layers, n), ranks), ranks)
    if (layers - 2 >= ranks - 1) expect(Math.min(...counts)).toBeGreaterThan(0)
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(2)
  })
})

test("a group runs on as many ranks as it can, in one block each, as even as can be", () => {
  check((layers, n, ranks) => {
    const schedule = fuzzy(layers, n)
    const of = owners(schedule, ranks)
    for (const group of schedule.slice(1, -1)) {
      const owning = group.map((layer) => of[layer] ?? -1)
      const taking = [...new Set(owning)]
      expect(taking.length).toBe(Math.min(group.length, ranks))
      expect(owning).toEqual(taking.flatMap((rank) => owning.filter((owner) => owner === rank))) // contiguous
      const counts = taking.map((rank) => owning.filter((owner) => owner === rank).length)
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1)
    }
  })
})

/** Hands h from owner to owner. */
const walkExact = (owners: ReadonlyArray<number>): number => {
  let hops = 0
  let at = owners[0]
  for (const owner of owners) {
    if (owner !== at) hops++
    at = owner
  }
  return hops
}

/** Runs the schedule: a rank that has layers in a group needs the group's h, and every rank needs its attentions. */
const walkFuzzy = (schedule: Schedule, owners: ReadonlyArray<number>): number => {
  let hops = 0
  let toldOthers = false
  for (const group of schedule) {
    const others = group.filter((layer) => owners[layer] !== 0)
    if (others.length === 0) continue
    if (!toldOthers) hops++ // h after layer 0
    toldOthers = true
    hops++ // the all-gather
  }
  return hops
}

test("hops are what a walk through the layers counts", () => {
  check((layers, n, ranks) => {
    const schedule = fuzzy(layers, n)
    const of = owners(schedule, ranks)
    expect(hopsExact(of)).toBe(walkExact(of))
    expect(hopsFuzzy(schedule, of)).toBe(walkFuzzy(schedule, of))
  })
})

test("hops in figures: none alone, and about layers / n for more ranks", () => {
  check((layers, n) => {
    const alone = owners(fuzzy(layers, n), 1)
    expect([hopsExact(alone), hopsFuzzy(fuzzy(layers, n), alone)]).toEqual([0, 0])
  })
  const schedule = fuzzy(24, 4)
  expect(hopsFuzzy(schedule, owners(schedule, 2))).toBe(7) // six groups between the first and the last layer
  check((layers, n, ranks) => {
    fc.pre(ranks > 1 && n > 1)
    const schedule = fuzzy(layers, n)
    expect(hopsFuzzy(schedule, owners(schedule, ranks))).toBeLessThanOrEqual(1 + Math.ceil((layers - 2) / n))
  })
})

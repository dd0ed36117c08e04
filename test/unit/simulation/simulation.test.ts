// The protocol on a virtual clock: a short run of what `npm run simulate` does for long, and whether it would find anything.
import { describe, expect, test } from "vitest"
import { MUTATIONS, type Mutation } from "../../simulation/mutation.ts"
import { FAILED } from "../../simulation/seeds.ts"
import { simulate } from "../../simulation/simulate.ts"

const MILLIS = 300_000

const violated = (seed: number): ReadonlyArray<string> => {
  const { violations } = simulate(seed)
  return violations.length === 0 ? [] : [`npm run simulate -- --seed ${seed}: ${violations.join("; ")}`]
}

test("what once went wrong does not go wrong again", { timeout: MILLIS }, () => {
  expect(FAILED.flatMap(({ seed }) => violated(seed))).toEqual([])
})

test("nothing is lost, doubled, or left behind, whatever happens", { timeout: MILLIS }, () => {
  const seeds = Array.from({ length: 100 }, (_, i) => 1_000_000 + i)
  expect(seeds.flatMap(violated)).toEqual([])
})

test("a seed is a world, the same each time", () => {
  const traced = (): ReadonlyArray<string> => {
    const lines: Array<string> = []
    simulate(7, { note: (line) => lines.push(line) })
    return lines
  }
  const first = traced()
  expect(first.length).toBeGreaterThan(50)
  expect(traced()).toEqual(first)
})

describe("it is found out when", () => {
  const SEEDS = 1000 // the order in which things happen changes with the product, and with it the seed
  const isMutation = (name: string): name is Mutation => name in MUTATIONS
  for (const mutation of Object.keys(MUTATIONS).filter(isMutation)) {
    const from = MUTATIONS[mutation]
    if (from === null) continue
    test(mutation, { timeout: MILLIS }, () => {
      const seeds = Array.from({ length: SEEDS }, (_, i) => from + i)
      const found = seeds.find((seed) => simulate(seed, { mutation }).violations.length > 0)
      expect(found).toBeDefined()
    })
  }
})

// The plan of a chaos run follows from its seed, strikes in every way, and never takes away both of what there is two of.
import { expect, test } from "vitest"
import { kindOf, lineOf, planOf } from "../../../src/chaos/plan.ts"
import { REQUESTS, sceneOf } from "../../../src/chaos/requests.ts"

const plan = (seed: number, faults = 200, without: ReadonlyArray<string> = []) => planOf({ seed, faults, without })
const SEEDS = [0, 1, 2, 77, 2 ** 31 - 1]

test("the same seed gives the same plan, another one another", () => {
  for (const seed of SEEDS) expect(plan(seed)).toEqual(plan(seed))
  expect(new Set(SEEDS.map((seed) => plan(seed).map(lineOf).join("\n"))).size).toBe(SEEDS.length)
})

test("a longer plan begins as a shorter one", () => {
  for (const seed of SEEDS) expect(plan(seed, 150).slice(0, 40)).toEqual(plan(seed, 40))
})

test("every kind comes within the first hundred faults, but for those that cannot be had", () => {
  const all = new Set(SEEDS.flatMap((seed) => plan(seed, 1_000).map(kindOf)))
  for (const seed of SEEDS) expect(new Set(plan(seed, 100).map(kindOf))).toEqual(all)
  expect(all).toContain("fill server")
  all.delete("fill server")
  expect(new Set(plan(1, 1_000, ["fill server"]).map(kindOf))).toEqual(all)
})

test("hosts, supervisors and servers are struck one at a time", () => {
  const few = ["host", "supervisor", "server"]
  for (const seed of SEEDS) {
    for (const [i, { role, alone }] of plan(seed).entries()) {
      const before = plan(seed)[i - 1]
      if (before !== undefined && few.includes(role) && few.includes(before.role)) expect(alone).toBe(true)
    }
  }
})

test("the first fault finds an installation that is whole, and all are numbered", () => {
  for (const seed of SEEDS) {
    expect(plan(seed)[0]?.alone).toBe(true)
    expect(plan(seed).map(({ number }) => number)).toEqual(plan(seed).map((_, i) => i + 1))
  }
})

test("half of the requests are greedy and half are sampled with a seed, and no two are the same", () => {
  expect(REQUESTS.filter(({ temperature }) => temperature === 0)).toHaveLength(REQUESTS.length / 2)
  const text = (request: object) =>
    JSON.stringify(request, (_, value) => (typeof value === "bigint" ? `${value}` : value))
  expect(new Set(REQUESTS.map(text)).size).toBe(REQUESTS.length)
})

test("how a generation is read follows from the seed and its number", () => {
  const scenes = Array.from({ length: 100 }, (_, i) => sceneOf(5, i))
  expect(scenes).toEqual(Array.from({ length: 100 }, (_, i) => sceneOf(5, i)))
  expect(new Set(scenes.map(({ way }) => way))).toEqual(new Set(["stream", "unary", "http"]))
  for (const { request, leaves } of scenes) {
    expect(REQUESTS[request]).toBeDefined()
    expect(leaves).toEqual(leaves.toSorted((a, b) => a - b))
  }
})

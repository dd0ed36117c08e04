// Which rank goes where, from figures alone; and why none can.
import { describe, expect, test } from "vitest"
import { type Offer, type Placement, place, type RankNeed } from "../../../src/controller/placement.ts"

const MiB = 2 ** 20

const offer = (name: string, change: Partial<Offer> = {}): Offer => ({
  ...{ name, cores: 4, threads: 0, memoryFree: 1000 * MiB, hopMillis: 0.3, lacks: new Map(), givenUp: [] },
  devices: [device("CPU", "cpu", 1000)],
  ...change,
})

const device = (name: string, kind: "cpu" | "gpu", free: number) => ({
  ...{ name, kind, description: name, memoryFree: free * MiB, memoryTotal: free * MiB },
})

const need = (group: "base" | "draft", rank: number, change: Partial<RankNeed> = {}): RankNeed => ({
  ...{ group, rank, model: `/${group}`, modelBytes: 100 * MiB, weights: 60 * MiB, kv: 10 * MiB, threads: 1 },
  device: "auto",
  ...change,
})

const hostsOf = (placement: Placement) =>
  placement._tag === "Placed" ? placement.ranks.map(({ host }) => host) : placement.reason

describe("where ranks go", () => {
  test("together, while one host has memory and cores for them", () => {
    const needs = [need("base", 0), need("draft", 0), need("draft", 1)]
    expect(hostsOf(place(needs, [offer("a"), offer("b", { cores: 8 })]))).toEqual(["b", "b", "b"])
  })

  test("apart, where it has not the cores: groups take turns, ranks of a group do not", () => {
    const needs = [need("base", 0), need("draft", 0), need("draft", 1)]
    expect(hostsOf(place(needs, [offer("a", { cores: 1 }), offer("b", { cores: 1 })]))).toEqual(["a", "a", "b"])
  })

  test("not where a rank kept ending, be it the best host or the only one", () => {
    const givenUp = [{ group: "base", rank: 0, reason: "rank 0 of base ended: SIGSEGV" }] as const
    const best = offer("a", { cores: 8, givenUp })
    expect(hostsOf(place([need("base", 0)], [best, offer("b")]))).toEqual(["b"])
    expect(hostsOf(place([need("draft", 0)], [best, offer("b")]))).toEqual(["a"])
    expect(hostsOf(place([need("base", 0)], [best]))).toBe(
      "rank 0 of base: a has given it up lately: rank 0 of base ended: SIGSEGV",
    )
  })

  test("on crowded cores rather than nowhere", () => {
    const needs = [need("draft", 0), need("draft", 1), need("draft", 2)]
    expect(hostsOf(place(needs, [offer("a", { cores: 2 })]))).toEqual(["a", "a", "a"])
  })

  test("away from other replicas", () => {
    expect(hostsOf(place([need("base", 0)], [offer("a", { threads: 4 }), offer("b", { cores: 2 })]))).toEqual(["b"])
  })

  test("the nearer of two like hosts", () => {
    expect(hostsOf(place([need("base", 0)], [offer("a", { hopMillis: 9 }), offer("b")]))).toEqual(["b"])
  })

  test("a file that ranks of one CPU map counts once, on a GPU it does not", () => {
    const needs = [need("draft", 0), need("draft", 1)]
    const cpu = place(needs, [offer("a", { memoryFree: 120 * MiB })]) // 60 + 10, then 40 + 10
    expect(cpu).toMatchObject({ ranks: [{ bytes: 70 * MiB }, { bytes: 50 * MiB }] })
    const gpu = offer("a", { memoryFree: 0, devices: [device("CPU", "cpu", 0), device("CUDA0", "gpu", 120)] })
    expect(hostsOf(place(needs, [gpu]))).toMatch(/rank 1 of draft: a has 50 MiB free on CUDA0 of the 70 MiB/)
  })

  test("a GPU where there is one with room, each its own while they are alike", () => {
    const devices = [device("CPU", "cpu", 1000), device("CUDA0", "gpu", 200), device("CUDA1", "gpu", 200)]
    const placement = place([need("draft", 0), need("draft", 1)], [offer("a", { devices })])
    expect(placement).toMatchObject({ ranks: [{ device: "CUDA0" }, { device: "CUDA1" }] })
    expect(place([need("base", 0, { device: "CPU" })], [offer("a", { devices })])).toMatchObject({
      ranks: [{ device: "CPU" }],
    })
  })
})

describe("why there is no place", () => {
  const cases: ReadonlyArray<readonly [string, Partial<RankNeed>, Partial<Offer>, RegExp]> = [
    [
      "memory",
      { weights: 5000 * MiB, modelBytes: 5000 * MiB },
      {},
      /^rank 0 of base: a has 1000 MiB free on CPU of the 5010 MiB it needs$/,
    ],
    ["cores", { threads: 8 }, {}, /a has 4 cores, it wants 8 threads/],
    ["a device", { device: "CUDA0" }, {}, /a has no device CUDA0; it has CPU/],
    [
      "the model",
      {},
      { lacks: new Map([["/base", "there is nothing at /base"]]) },
      /a lacks the model: there is nothing at \/base/,
    ],
  ]
  test.each(cases)("%s", (_, needs, offers, reason) => {
    expect(hostsOf(place([need("base", 0, needs)], [offer("a", offers)]))).toMatch(reason)
  })

  test("every host says its own reason, and without a host it is said how one joins", () => {
    const hosts = [offer("a", { cores: 1 }), offer("b", { memoryFree: 0 })]
    expect(hostsOf(place([need("base", 0, { threads: 2 })], hosts))).toMatch(/a has 1 cores.*; b has 0 MiB free/)
    expect(hostsOf(place([need("base", 0)], []))).toMatch(/no host has joined. `chorus host/)
  })
})

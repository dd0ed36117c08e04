// What a pass sends: the counts in its answer, the closed formulas of each strategy, and what the server has really
// carried are the same numbers.
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { ownersOf } from "../../src/rank/strategy/strategies.ts"
import { fuzzy, hopsExact, hopsFuzzy } from "../../src/speculation/schedule.ts"
import { HEADER_BYTES } from "../../src/wire/activation.ts"
import type { Strategy } from "../../src/wire/deployment.ts"
import { PART_HEADER_BYTES } from "../../src/wire/part.ts"
import type { DraftedTree, PassCost } from "../../src/wire/pass.ts"
import { RankGroup, Server } from "./rankGroup.ts"

const MODEL = join(import.meta.dirname, "../../models/demo/draft")
const LAYERS = 10
const WIDTH = 96
const MAX_PAYLOAD = 16_384 // 48 rows are 18,480 bytes: two parts

let server: Server
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "chorus-test-"))
  const config = join(folder, "small.conf")
  await writeFile(config, `listen: "127.0.0.1:4222"\nmax_payload: ${MAX_PAYLOAD}\n`)
  server = await Server.start({ config })
})
afterAll(async () => {
  await server[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
})

type Traffic = Pick<PassCost, "hops" | "messages" | "bytes">
const NOTHING: Traffic = { hops: 0, messages: 0, bytes: 0 }
const sum = (...all: ReadonlyArray<Traffic>): Traffic =>
  all.reduce(
    (a, b) => ({ hops: a.hops + b.hops, messages: a.messages + b.messages, bytes: a.bytes + b.bytes }),
    NOTHING,
  )
const traffic = ({ hops, messages, bytes }: PassCost): Traffic => ({ hops, messages, bytes })

/** `count` activations of as many blocks of rows and this many bytes of a frontier. */
const activations = (count: number, rows: number, blocks: number, nodes = 0): Omit<Traffic, "hops"> => {
  const bytes = HEADER_BYTES + nodes + 4 * WIDTH * rows * blocks
  const parts = bytes <= MAX_PAYLOAD ? 1 : Math.ceil(bytes / (MAX_PAYLOAD - PART_HEADER_BYTES))
  return { messages: count * parts, bytes: count * (bytes + (parts === 1 ? 0 : parts * PART_HEADER_BYTES)) }
}

interface Formulas {
  readonly exact: (rows: number) => Traffic
  readonly fuzzy: (rows: number, n: number) => Traffic
}

const FRONTIER = 8 // bytes a row: its token and its parent

const formulas = (strategy: Strategy, ranks: number, dealtBy: number): Formulas => {
  const owners = ownersOf({ strategy, ranks }, LAYERS, dealtBy)
  const handed = (rows: number, nodes: number) => activations(1, rows, 1, nodes)
  switch (strategy) {
    case "single":
      return { exact: () => NOTHING, fuzzy: () => NOTHING }
    case "pipeline": // R - 1 hops of tokens x width; a draft's frontier goes to the first rank before, and on with h
      return {
        exact: (rows) => ({ hops: ranks - 1, ...activations(ranks - 1, rows, 1) }),
        fuzzy: (rows) =>
          sum(
            { hops: 1, ...handed(0, FRONTIER * rows) },
            { hops: ranks - 1, ...activations(ranks - 1, rows, 1, FRONTIER * rows) },
          ),
      }
    case "layer": {
      const exact = (rows: number) => ({ hops: hopsExact(owners), ...activations(hopsExact(owners), rows, 1) })
      return {
        exact,
        fuzzy: (rows, n) => {
          const told = sum(exact(rows), { hops: 0, messages: 0, bytes: FRONTIER * rows })
          return n === 1 ? told : fuzzyLayers(owners, rows, n)
        },
      }
    }
  }
}

/**
 * A broadcast of h and the frontier; then, for each group, one all-gather of the A's that another rank needs: the leader
 * needs all of them, the others those of the groups before their own last one.
 */
const fuzzyLayers = (owners: ReadonlyArray<number>, rows: number, n: number): Traffic => {
  const groups = fuzzy(LAYERS, n)
    .slice(1, -1)
    .map((group) => group.map((layer) => owners[layer] ?? 0))
  const gathers = groups.map((of, g) => {
    const listeners = new Set([0, ...groups.slice(g + 1).flat()])
    const senders = [...new Set(of)].filter((rank) => [...listeners].some((listener) => listener !== rank))
    const sent = senders.map((rank) => ({ hops: 0, ...activations(1, rows, of.filter((o) => o === rank).length) }))
    return sum({ ...NOTHING, hops: Math.min(1, senders.length) }, ...sent)
  })
  return sum({ hops: 1, ...activations(1, rows, 1, FRONTIER * rows) }, ...gathers)
}

/** Everything that the server carries between the ranks. What led to an answer comes before it on one connection. */
const watch = (group: RankGroup, name: string) => {
  let seen = NOTHING
  const subscription = group.connection.subscribe(`chorus.v1.${name}.group.>`, {
    callback: (_, { subject, data }) => {
      if (subject.endsWith(".act")) seen = sum(seen, { hops: 0, messages: 1, bytes: data.byteLength })
    },
  })
  return {
    /** Since the last reading. */
    read: (): Traffic => {
      const since = seen
      seen = NOTHING
      return since
    },
    stop: () => subscription.unsubscribe(),
  }
}

/** Ranks that were dealt layers for one N draft with it, and with others too. */
const cases: ReadonlyArray<{ strategy: Strategy; ranks: number; dealtBy: number; drafts: ReadonlyArray<number> }> = [
  { strategy: "single", ranks: 1, dealtBy: 4, drafts: [1, 4] },
  { strategy: "pipeline", ranks: 2, dealtBy: 4, drafts: [1, 4] },
  { strategy: "pipeline", ranks: 3, dealtBy: 4, drafts: [1, 4] },
  { strategy: "layer", ranks: 2, dealtBy: 4, drafts: [1, 2, 4] },
  { strategy: "layer", ranks: 3, dealtBy: 4, drafts: [1, 2, 4, 5] },
  { strategy: "layer", ranks: 3, dealtBy: 2, drafts: [2] },
]

test.each(cases)(
  "$strategy on $ranks ranks, layers dealt for N = $dealtBy",
  async ({ strategy, ranks, dealtBy, drafts }) => {
    const name = `counts-${strategy}-${ranks}-${dealtBy}`
    await using group = await RankGroup.start(server, { name, model: MODEL, strategy, ranks, fuzzy: dealtBy })
    const expected = formulas(strategy, ranks, dealtBy)
    const carried = watch(group, name)
    const without = (of: Traffic): Traffic => ({ ...of, hops: 0 })
    const prompt = Array.from({ length: 96 }, (_, i) => (i * 37) % 4096)

    const prefills = await group.prefill("s", prompt)
    expect(prefills.map(({ cost }) => traffic(cost))).toEqual([expected.exact(48), expected.exact(48)])
    expect(carried.read()).toEqual(without(sum(expected.exact(48), expected.exact(48))))

    const rows = { tokens: [1, 2, 3, 4], parents: [-1, 0, 0, 1] }
    const verified = await group.verify("s", { committed: prompt.length, acceptedRows: [], ...rows })
    expect(traffic(verified.cost)).toEqual(expected.exact(4))
    expect(carried.read()).toEqual(without(expected.exact(4)))

    const decoded = await group.decode("s", { committed: prompt.length, acceptedRows: [], token: 7, steps: 4 })
    const told = ranks === 1 ? NOTHING : { hops: 1, ...activations(1, 0, 0, FRONTIER) } // the token, to the ranks that did not choose it
    const all = decoded.tokens.map((_, i) => (i === 0 ? expected.exact(1) : sum(told, expected.exact(1))))
    expect(decoded.tokens.length).toBe(4)
    expect(traffic(decoded.cost)).toEqual(sum(...all))
    expect(carried.read()).toEqual(without(sum(...all)))

    for (const n of drafts) {
      const shape = { depth: 4, width: 3, nodes: 12 }
      const drafted = await group.draft("s", { committed: prompt.length, accepted: [5, 6], fuzzy: n, ...shape })
      const steps = sum(...stepsOf(drafted).map((rows) => expected.fuzzy(rows, n)))
      expect(traffic(drafted.calibrate)).toEqual(expected.exact(2))
      expect(traffic(drafted.draft), `a draft with N = ${n}`).toEqual(steps)
      expect(carried.read()).toEqual(without(sum(expected.exact(2), steps)))
    }
    carried.stop()
  },
)

const stepsOf = ({ steps }: DraftedTree): ReadonlyArray<number> => {
  const rows = steps.map(({ rows }) => rows)
  expect(rows).toEqual([3, 3, 3])
  return rows
}

test("a fuzzy pass is a broadcast and a gather a group, where the layers are dealt for its N", () => {
  const hops = (ranks: number, n: number) => fuzzyLayers(ownersOf({ strategy: "layer", ranks }, LAYERS, n), 1, n).hops
  expect([hops(2, 2), hops(3, 2), hops(2, 4), hops(3, 4), hops(4, 4)]).toEqual([5, 5, 3, 3, 3])
  for (const ranks of [2, 3, 4]) {
    for (const n of [2, 3, 4, 5]) {
      const owners = ownersOf({ strategy: "layer", ranks }, LAYERS, n)
      expect(hops(ranks, n)).toBe(hopsFuzzy(fuzzy(LAYERS, n), owners))
    }
  }
})

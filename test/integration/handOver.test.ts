// A session that moves: its replica's host drains, and it goes on on another replica with the KV that the ranks send there.
import { afterAll, beforeAll, expect, test } from "vitest"
import type { InferRequest } from "../../src/wire/infer.ts"
import { TREE } from "./requests.ts"
import { Fleet, storedOf } from "./serverless.ts"

/** Long enough for several chunks of prefill. */
const PROMPT = Array.from({ length: 400 }, (_, i) => (i * i * 31 + 17 * i + 5) % 4000)
const REQUEST: InferRequest = {
  ...{ tokens: PROMPT, maxTokens: 300, temperature: 0.8, seed: 5n },
  speculation: TREE,
}

let fleet: Fleet

beforeAll(async () => {
  fleet = await Fleet.start({ hosts: [{ name: "first", cores: 64, drainMillis: 60_000 }] })
})
afterAll(async () => {
  await fleet[Symbol.asyncDispose]()
})

/** Where the deployment's ranks are. */
const hostsOf = (name: string): ReadonlyArray<string> => [
  ...new Set(fleet.replicas(name).replicas.flatMap(({ ranks }) => ranks.map(({ host }) => host))),
]

test.each([
  ["single", 1],
  ["pipeline", 2],
  ["layer", 2],
] as const)(
  "%s on %i: a session leaves a host that drains with its KV, and not a token is another",
  async (strategy, ranks) => {
    const name = `moved-${strategy}`
    const stored = storedOf({ name, baseRanks: ranks, context: 1024 }, { replicas: { min: 1, max: 1, sessions: 8 } })
    await fleet.host({ name: `other-${strategy}`, cores: 64, drainMillis: 60_000 })
    await fleet.deploy({ ...stored, base: { ...stored.base, strategy } })
    const client = await fleet.client(name)
    const undisturbed = await (await client.generate(REQUEST)).ending()
    const [leaving = "nowhere", ...others] = hostsOf(name)
    expect(others).toEqual([])
    const generation = await client.generate(REQUEST)
    const reading = generation[Symbol.asyncIterator]()
    for (let said = 0; said < 20; said++) await reading.next()
    process.kill(fleet.hosts.get(leaving)?.actor.pid || Number.NaN, "SIGTERM")
    const ending = await generation.ending()
    expect(ending).toMatchObject({ error: "", tokens: undisturbed.tokens })
    // Of each group the one chunk with which it begins, the prompt would be four.
    expect(ending.stats.passes.prefill?.count).toBeLessThanOrEqual((undisturbed.stats.passes.prefill?.count ?? 0) + 2)
    expect(fleet.replicas(name).replicas.length).toBe(1)
    expect(hostsOf(name)).not.toContain(leaving)
    await fleet.clear()
  },
)

test.each([
  ["single", 1],
  ["layer", 2],
] as const)(
  "%s on %i: prompts are filled in by ranks of their own, and not a token is another",
  async (strategy, ranks) => {
    const name = `apart-${strategy}`
    const stored = storedOf({ name, baseRanks: ranks, context: 1024 })
    const base = { ...stored.base, strategy }
    await fleet.deploy({ ...stored, base })
    const client = await fleet.client(name)
    const request = { ...REQUEST, promptLogprobs: 2 }
    const whole = await (await client.generate(request)).ending()
    await fleet.deploy({ ...stored, base, prefill: { ...base, name: "prefill" } })
    await fleet.until(name, ({ replicas }) => replicas.length === 0) // of what it was: it is not needed
    const ending = await (await client.generate(request)).ending()
    expect(ending).toMatchObject({ error: "", tokens: whole.tokens })
    expect(ending.prompt).toHaveLength(PROMPT.length)
    expect(ending.prompt).toEqual(whole.prompt)
    const places = fleet.replicas(name).replicas.flatMap(({ ranks }) => ranks.map(({ group }) => group))
    expect(places.filter((group) => group === "prefill").length).toBe(ranks)
    // All chunks of the prompt, and one pass in which the base's ranks have got the KV.
    expect(ending.stats.passes.prefill?.count).toBe((whole.stats.passes.prefill?.count ?? 0) + 1)
    await fleet.clear()
  },
)

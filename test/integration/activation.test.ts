// Deployments that come and go by themselves: activation, passivation, change, removal, replicas. Real hosts, supervisors
// and ranks; everything is waited for by what the bucket says.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import type { Generation } from "../../src/client/index.ts"
import type { InferRequest } from "../../src/wire/infer.ts"
import type { Replicas } from "../../src/wire/replicas.ts"
import { SAMPLED, TREE } from "./requests.ts"
import { Fleet, isAlive, kill, storedOf } from "./serverless.ts"

const REQUEST: InferRequest = { ...SAMPLED, maxTokens: 12, speculation: TREE }
const LONG: InferRequest = { ...REQUEST, maxTokens: 200 }

const cold = ({ replicas }: Replicas) => replicas.length === 0
const ready =
  (count = 1) =>
  ({ replicas }: Replicas) =>
    replicas.filter(({ state }) => state === "ready").length === count

const first = async (generation: Generation) => {
  const { value } = await generation[Symbol.asyncIterator]().next()
  expect(value).toBeDefined()
}

describe("one host", () => {
  let fleet: Fleet
  beforeAll(async () => {
    fleet = await Fleet.start({ hosts: [{ name: "a" }] })
  })
  afterAll(async () => {
    await fleet[Symbol.asyncDispose]()
  })

  afterEach(() => fleet.clear())

  test("the first request starts the ranks, the idle time ends them, and the next one starts them again", async () => {
    await fleet.deploy(storedOf({ name: "idle" }, { idleTimeoutMillis: 1_000 }))
    const client = await fleet.client("idle")
    expect(fleet.replicas("idle").replicas).toEqual([])
    const told: Array<number> = []
    const generation = await client.generate(LONG, { activating: (fraction) => told.push(fraction) })
    await first(generation) // while it runs nothing idles
    expect(fleet.replicas("idle")).toMatchObject({ epoch: 1, replicas: [{ epoch: 1, state: "ready" }] })
    const pids = fleet.beat("a")?.ranks.map(({ pid }) => pid) ?? []
    expect(pids.map(isAlive)).toEqual([true, true, true])
    const { tokens, finishReason, stats } = await generation.ending()
    expect({ finishReason, tokens: tokens.length }).toEqual({ finishReason: "length", tokens: 200 })
    expect(told.length).toBeGreaterThan(0)
    expect(told.every((fraction) => fraction >= 0 && fraction <= 1)).toBe(true)
    const { coldStart } = stats
    expect(Object.values(coldStart ?? {}).every((part) => part >= 0)).toBe(true)
    expect(coldStart?.processStartMillis).toBeGreaterThan(0)

    const states = await fleet.until("idle", cold)
    expect(states.flatMap(({ replicas }) => replicas.map(({ state }) => state))).toContain("draining")
    await expect.poll(() => pids.map(isAlive)).toEqual([false, false, false])

    const again = await client.generate(LONG)
    await first(again)
    expect(fleet.replicas("idle")).toMatchObject({ epoch: 2, replicas: [{ epoch: 2 }] })
    const warm = await (await client.generate(REQUEST)).ending()
    expect(warm.stats.coldStart).toBeUndefined()
    expect((await again.ending()).tokens).toEqual(tokens)
  })

  test("a change that the ranks see gets them replaced, under the sessions that run", async () => {
    await fleet.deploy(storedOf({ name: "changing" }))
    const client = await fleet.client("changing")
    const long = await client.generate(LONG)
    await first(long)
    await fleet.deploy(storedOf({ name: "changing", draftRanks: 1, context: 500 }))
    // Once the supervisor has followed, the new limit holds.
    const refusal = () => client.generate({ ...LONG, maxTokens: 505 }).catch((error: Error) => error.message)
    await expect.poll(refusal).toMatch(/the context holds 500\b/)
    const changed = await fleet.until("changing", ({ replicas }) => replicas.some(({ epoch }) => epoch === 1))
    expect(changed.at(-1)?.replicas.some(({ epoch }) => epoch === 1)).toBe(true)
    expect(await (await client.generate(REQUEST)).ending()).toMatchObject({ error: "", finishReason: "length" })
    expect(await long.ending()).toMatchObject({ finishReason: "length", error: "" })
    await fleet.until("changing", ({ replicas }) => replicas.length === 1 && replicas[0]?.deployment.context === 500)
  })

  test("a session that waits for ranks when they are replaced goes on with the others", async () => {
    await fleet.deploy(storedOf({ name: "moved" }))
    const client = await fleet.client("moved")
    const [early, whole] = [await client.generate(REQUEST), client.complete(REQUEST)]
    await fleet.until("moved", ({ replicas }) => replicas.some(({ state }) => state === "activating"))
    await fleet.deploy(storedOf({ name: "moved", draftRanks: 1 }))
    expect(await early.ending()).toMatchObject({ finishReason: "length", error: "" })
    expect(await whole).toMatchObject({ finishReason: "length", error: "", tokens: (await early.ending()).tokens })
    expect(fleet.replicas("moved").replicas.map(({ epoch }) => epoch)).toEqual([2])
  })

  test("a change of its limits alone leaves the ranks as they are", async () => {
    await fleet.deploy(storedOf({ name: "limits" }))
    const client = await fleet.client("limits")
    await (await client.generate(REQUEST)).ending()
    const pids = fleet.beat("a")?.ranks.map(({ pid }) => pid)
    await fleet.deploy(storedOf({ name: "limits" }, { queue: 3, replicas: { min: 1, max: 1, sessions: 2 } }))
    await (await client.generate(REQUEST)).ending()
    expect(fleet.beat("a")?.ranks.map(({ pid }) => pid)).toEqual(expect.arrayContaining(pids ?? []))
    expect(fleet.replicas("limits").epoch).toBe(1)
  })

  test("one that is removed serves its sessions to their end, and no other", async () => {
    await fleet.deploy(storedOf({ name: "removed" }))
    const client = await fleet.client("removed")
    const long = await client.generate(LONG)
    await first(long)
    await fleet.remove("removed")
    await expect
      .poll(() => client.generate(REQUEST).catch((error: Error) => error.message))
      .toMatch(/removed is not served|there is no deployment removed/)
    expect(await long.ending()).toMatchObject({ finishReason: "length", error: "" })
    await fleet.until("removed", cold)
    expect(fleet.replicas("removed").epoch).toBe(1) // kept, so that it rises if it comes again
  })

  test("with more sessions than a replica is for another one comes, and goes when they are over", async () => {
    await fleet.deploy(
      storedOf({ name: "wide", draft: null }, { idleTimeoutMillis: 1_000, replicas: { min: 0, max: 2, sessions: 1 } }),
    )
    const client = await fleet.client("wide")
    const plain: InferRequest = { ...LONG, speculation: "none" }
    const { tokens } = await (await client.generate({ ...plain, maxTokens: 30 })).ending()
    const running = new AbortController()
    const long = [await client.generate(plain), await client.generate(plain)]
    const busy = [keepBusy(client, plain, running.signal), keepBusy(client, plain, running.signal)]
    try {
      await fleet.until("wide", ready(2))
      const one = await client.generate({ ...plain, maxTokens: 30 })
      expect(await one.ending()).toMatchObject({ error: "", tokens }) // wherever it ran
    } finally {
      running.abort()
      await Promise.all(busy)
    }
    await Promise.all(long.map((generation) => generation.ending()))
    await fleet.until("wide", cold)
  })

  test("more than may wait are refused, and told when to ask again", async () => {
    await fleet.deploy(storedOf({ name: "queue" }, { queue: 2, kvTokens: 40 }))
    const client = await fleet.client("queue")
    const asked = await Promise.allSettled([1, 2, 3, 4, 5, 6].map(() => client.generate(REQUEST)))
    const refused = asked.filter((one) => one.status === "rejected").map(({ reason }) => reason)
    expect(refused.length).toBeGreaterThan(0)
    for (const error of refused) expect(error).toMatchObject({ _tag: "Overloaded", waiting: 2 })
    const served = asked.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []))
    for (const one of served) expect(await one.ending()).toMatchObject({ error: "", finishReason: "length" })
  })

  test("a rank that is killed is started again by its host, and the session goes on with the same tokens", async () => {
    await fleet.deploy(storedOf({ name: "killed" }))
    const client = await fleet.client("killed")
    const { tokens } = await (await client.generate(LONG)).ending()
    const survivor = await client.generate(LONG)
    await first(survivor)
    const rank = fleet.beat("a")?.ranks.find((one) => one.deployment === "killed" && one.group === "draft")
    kill(rank?.pid)
    const again = () => fleet.beat("a")?.ranks.find(({ pid, restarts }) => restarts === 1 && pid > 0)
    await expect.poll(again).toMatchObject({ deployment: "killed", reason: expect.stringContaining("SIGKILL") })
    expect(await survivor.ending()).toMatchObject({ error: "", tokens })
    expect(await (await client.generate(LONG)).ending()).toMatchObject({ error: "", tokens })
    expect(fleet.replicas("killed").epoch).toBe(1)
  })
})

/** One generation after the other. */
const keepBusy = async (
  client: Awaited<ReturnType<Fleet["client"]>>,
  request: InferRequest,
  signal: AbortSignal,
): Promise<void> => {
  while (!signal.aborted) {
    const generation = await client.generate(request, { signal }).catch(() => undefined)
    await generation?.ending().catch(() => undefined)
  }
}

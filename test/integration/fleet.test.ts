// Several machines, played by hosts of one core each, and two supervisors: ranks of one group on both, one activation
// whichever of them is asked, refusals with figures, and what becomes of it all when a host or the controller is killed.
import { join } from "node:path"
import { Effect, Result } from "effect"
import { afterAll, afterEach, beforeAll, expect, test } from "vitest"
import { SupervisorBeat } from "../../src/wire/beat.ts"
import { codec } from "../../src/wire/codec.ts"
import type { InferRequest } from "../../src/wire/infer.ts"
import type { Replicas } from "../../src/wire/replicas.ts"
import { subjectsOf } from "../../src/wire/subjects.ts"
import { SAMPLED, TREE } from "./requests.ts"
import { Fleet, isAlive, kill, storedOf } from "./serverless.ts"

const REQUEST: InferRequest = {
  ...SAMPLED,
  maxTokens: 12,
  speculation: TREE,
}
const LONG: InferRequest = { ...REQUEST, maxTokens: 200 }
const PLAIN: InferRequest = { ...REQUEST, speculation: "none" }

let fleet: Fleet
let tokens: ReadonlyArray<number> // what the request gives, wherever it runs

beforeAll(async () => {
  fleet = await Fleet.start({
    hosts: [
      { name: "a", cores: 1 },
      { name: "b", cores: 1 },
      { name: "tiny", cores: 64, memory: 2 ** 20 },
    ],
  })
  await fleet.supervisor() // the first one keeps, this one shares the sessions
})
afterEach(() => fleet.clear())
afterAll(async () => {
  await fleet[Symbol.asyncDispose]()
})

const generate = async (deployment: string, request = REQUEST) => {
  const client = await fleet.client(deployment)
  return (await client.generate(request)).ending()
}

const hostsOf = ({ replicas }: Replicas) =>
  [...new Set(replicas.flatMap(({ ranks }) => ranks.map(({ host }) => host)))].sort()

test("a group's ranks are spread where one host has not the cores for them, and no token is another", async () => {
  await fleet.deploy(storedOf({ name: "plain", draft: null }))
  tokens = (await generate("plain", PLAIN)).tokens
  await fleet.clear()
  await fleet.deploy(storedOf({ name: "spread" }))
  expect((await generate("spread")).tokens).toEqual(tokens)
  const { replicas } = fleet.replicas("spread")
  const drafts = replicas.flatMap(({ ranks }) => ranks.filter(({ group }) => group === "draft"))
  expect(drafts.map(({ host }) => host).sort()).toEqual(["a", "b"])
})

test("however many ask two supervisors at once, one activation serves them", async () => {
  await fleet.deploy(storedOf({ name: "shared" }))
  const clients = await Promise.all([1, 2, 3, 4, 5, 6].map(() => fleet.client("shared")))
  const asked = await Promise.all(clients.map((client) => client.generate(REQUEST)))
  for (const generation of asked) expect((await generation.ending()).tokens).toEqual(tokens)
  expect(fleet.replicas("shared")).toMatchObject({ epoch: 1, replicas: [{ epoch: 1, state: "ready" }] })
})

test("supervisors that share replicas each give out their part of the memory", async () => {
  await fleet.deploy(storedOf({ name: "divided", draft: null }, { kvTokens: 2_000 }))
  const client = await fleet.client("divided")
  await (await client.generate(PLAIN)).ending()
  const beats = codec("supervisor beat", SupervisorBeat)
  const totals = new Map<string, number>()
  for await (const { data } of client.connection.subscribe(subjectsOf("divided").beat("supervisor.*"))) {
    const { id, kvTokensTotal } = Result.getOrThrow(beats.decode(data))
    totals.set(id, kvTokensTotal)
    if (totals.size === 2 && [...totals.values()].every((total) => total === 1_000)) break
  }
})

test("where there is no place the request is refused, with the figures of each host", async () => {
  const big = storedOf({ name: "big", draft: null })
  await fleet.deploy({ ...big, base: { ...big.base, threads: 64 } })
  await expect(generate("big", PLAIN)).rejects.toThrow(
    /no place for big: rank 0 of base: a has 1 cores, it wants 64 threads; b has 1 .*tiny has 1 MiB free on CPU of the \d+ MiB/,
  )
  await fleet.deploy({ ...big, base: { ...big.base, device: "CUDA77" } })
  await expect
    .poll(() => generate("big", PLAIN).catch(({ message }) => message))
    .toMatch(/a has no device CUDA77; it has CPU/)
})

test("a host that lacks the model is not chosen", async () => {
  const here = process.cwd()
  process.chdir("/") // of the host alone: /proc/self/cwd is a folder of each process's own
  await fleet.host({ name: "c", cores: 64 })
  process.chdir(here)
  const model = `/proc/self/cwd/models/demo/base`
  await fleet.deploy(storedOf({ name: "own", base: model, draft: null }))
  expect((await generate("own", PLAIN)).tokens).toEqual(tokens)
  expect(hostsOf(fleet.replicas("own"))).not.toContain("c")
  await fleet.deploy(storedOf({ name: "shared", base: join(here, "models/demo/base"), draft: null }))
  expect((await generate("shared", PLAIN)).tokens).toEqual(tokens)
  expect(hostsOf(fleet.replicas("shared"))).toEqual(["c"]) // which has the most cores
  expect(fleet.replicas("shared").epoch).toBe(2) // it was there before
})

test("a host that is killed takes its ranks with it; its sessions go on elsewhere, in a higher epoch", async () => {
  const { actor } = fleet.hosts.get("c") ?? {}
  await fleet.deploy(storedOf({ name: "moved" }))
  const whole = await generate("moved", LONG)
  const client = await fleet.client("moved")
  const survivor = await client.generate(LONG)
  await survivor[Symbol.asyncIterator]().next()
  expect(hostsOf(fleet.replicas("moved"))).toEqual(["c"])
  const pids = fleet.beat("c")?.ranks.map(({ pid }) => pid) ?? []
  kill(actor?.pid)
  await expect.poll(() => pids.some(isAlive)).toBe(false)
  expect(await survivor.ending()).toMatchObject({ error: "", tokens: whole.tokens })
  expect(fleet.replicas("moved").epoch).toBe(2)
  expect(hostsOf(fleet.replicas("moved"))).toEqual(["a", "b"])
})

test("a host that drains lets its sessions end while others are placed elsewhere", async () => {
  await fleet.host({ name: "d", cores: 64, drainMillis: 30_000 })
  const { actor } = fleet.hosts.get("d") ?? {}
  await fleet.deploy(storedOf({ name: "drained" }))
  const client = await fleet.client("drained")
  const long = await client.generate(LONG)
  await long[Symbol.asyncIterator]().next()
  expect(hostsOf(fleet.replicas("drained"))).toEqual(["d"])
  process.kill(actor?.pid || Number.NaN, "SIGTERM")
  await fleet.until("drained", ({ replicas }) => replicas[0]?.state === "draining")
  expect((await generate("drained")).tokens).toEqual(tokens)
  expect(fleet.replicas("drained").epoch).toBe(2)
  expect(await long.ending()).toMatchObject({ finishReason: "length", error: "" })
  expect(await Effect.runPromise(actor?.ended ?? Effect.die("no host"))).toMatchObject({ how: "exit code 0" })
})

test("a controller that is killed during an activation leaves it to the other supervisor", async () => {
  const [controller] = fleet.supervisors
  await fleet.deploy(storedOf({ name: "kept" }, { replicas: { min: 1, max: 1, sessions: 8 } }))
  await fleet.until("kept", ({ replicas }) => replicas[0]?.state === "activating")
  kill(controller?.actor.pid)
  await fleet.until("kept", ({ replicas }) => replicas[0]?.state === "ready")
  expect((await generate("kept")).tokens).toEqual(tokens)
})

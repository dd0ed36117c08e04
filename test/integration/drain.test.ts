// Two hosts, and one that has to go: `chorus drain` takes its ranks off, what a host has given up moves to the other one, and
// whatever runs meanwhile goes on with the same tokens.
import { Effect, Result } from "effect"
import { afterAll, afterEach, beforeAll, expect, test } from "vitest"
import { codec } from "../../src/wire/codec.ts"
import type { InferRequest } from "../../src/wire/infer.ts"
import { Demand, type Replicas } from "../../src/wire/replicas.ts"
import { subjectsOf } from "../../src/wire/subjects.ts"
import { commandLine } from "./commandLine.ts"
import { SAMPLED, TREE } from "./requests.ts"
import { Fleet, kill, storedOf } from "./serverless.ts"

const PLAIN: InferRequest = { ...SAMPLED, maxTokens: 440 }
/** Slower than plain steps here: such sessions last until others are ready. */
const REQUEST: InferRequest = { ...PLAIN, speculation: TREE }
const SHORT: InferRequest = { ...PLAIN, maxTokens: 12 }

const demands = codec("demand", Demand)

const WAIT = { timeout: 60_000, interval: 20 }

const chorus = commandLine()
let fleet: Fleet
let tokens: ReadonlyArray<number> // what the request gives, wherever it runs

beforeAll(async () => {
  fleet = await Fleet.start({
    hosts: [
      { name: "big", cores: 64 },
      { name: "small", cores: 8 },
    ],
  })
  await fleet.deploy(storedOf({ name: "still" }))
  tokens = (await (await (await fleet.client("still")).generate(REQUEST)).ending()).tokens
  await fleet.clear()
})
afterEach(() => fleet.clear())
afterAll(async () => {
  await fleet[Symbol.asyncDispose]()
  chorus.close()
})

const server = () => ["--nats", fleet.url, "--keys", fleet.keys]

const drain = (...args: ReadonlyArray<string>) => chorus.run(["drain", ...args, ...server()])

const hostsOf = ({ replicas }: Replicas) => [...new Set(replicas.flatMap(({ ranks }) => ranks.map(({ host }) => host)))]

/** Several at a time, for they have to last until others are ready. */
const begin = async (deployment: string, sessions: number, request = REQUEST) => {
  const client = await fleet.client(deployment)
  const generations = await Promise.all(Array.from({ length: sessions }, () => client.generate(request)))
  for (const generation of generations) await generation[Symbol.asyncIterator]().next()
  return { client, generations }
}

test("a drained host gets no ranks until that is undone; sessions go on elsewhere with the same tokens", async () => {
  await fleet.deploy(storedOf({ name: "moving" }, { kvTokens: 4096 }))
  const { client, generations } = await begin("moving", 6)
  let moved = false
  client.connection.subscribe(subjectsOf("moving").demand, {
    callback: (_, { data }) => {
      const { running } = Result.getOrThrow(demands.decode(data))
      moved ||= running.some(({ epoch, sessions }) => epoch === 2 && sessions > 0)
    },
  })
  expect(hostsOf(fleet.replicas("moving"))).toEqual(["big"])
  const { code, stdout, stderr } = await drain("big", "--limit", "1ms")
  expect({ code, stdout, stderr }).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^big is drained: it has no ranks, and gets none until `chorus drain --undo big`/),
    stderr: expect.stringMatching(/big drains: 3 ranks are left, of moving/),
  })
  expect(fleet.beat("big")).toMatchObject({ state: "draining", ranks: [] })
  expect(hostsOf(fleet.replicas("moving"))).toEqual(["small"])
  for (const generation of generations) expect(await generation.ending()).toMatchObject({ error: "", tokens })
  expect(moved).toBe(true) // they had not all ended before there was another replica
  expect(fleet.replicas("moving").epoch).toBe(2)

  await fleet.deploy(storedOf({ name: "another", draft: null }))
  await (await (await fleet.client("another")).generate(SHORT)).ending()
  expect(hostsOf(fleet.replicas("another"))).toEqual(["small"])
  await fleet.clear()
  expect(await drain("big", "--undo")).toMatchObject({ code: 0, stdout: "big takes ranks again\n" })
  await expect.poll(() => fleet.beat("big")?.state, WAIT).toBe("ready")
  await fleet.deploy(storedOf({ name: "back", draft: null }))
  await (await (await fleet.client("back")).generate(SHORT)).ending()
  expect(hostsOf(fleet.replicas("back"))).toEqual(["big"])
})

test("a drain outlives the controller, and the command that asked for it", async () => {
  await fleet.deploy(storedOf({ name: "kept" }, { replicas: { min: 1, max: 1, sessions: 8 } }))
  await fleet.until("kept", ({ replicas }) => replicas[0]?.state === "ready")
  expect(hostsOf(fleet.replicas("kept"))).toEqual(["big"])
  const asking = chorus.start(["drain", "big", ...server()])
  await Promise.race([
    fleet.until("kept", ({ replicas }) => replicas[0]?.state === "draining"),
    asking.ended.then(({ stderr }) => Promise.reject(new Error(stderr))),
  ])
  asking.child.kill("SIGKILL")
  const [controller] = fleet.supervisors
  kill(controller?.actor.pid)
  await fleet.supervisor()
  await fleet.until("kept", (record) => hostsOf(record).join() === "small" && record.replicas[0]?.state === "ready")
  await expect.poll(() => fleet.beat("big")?.ranks, WAIT).toEqual([])
  expect(await drain("big", "--undo")).toMatchObject({ code: 0 })
})

test("SIGTERM to a host does the same within its limit", async () => {
  await fleet.host({ name: "huge", cores: 128, drainMillis: 1 })
  await fleet.deploy(storedOf({ name: "told" }, { kvTokens: 4096 }))
  const { generations } = await begin("told", 6)
  expect(hostsOf(fleet.replicas("told"))).toEqual(["huge"])
  const { actor } = fleet.hosts.get("huge") ?? expect.fail("no host")
  process.kill(actor.pid || Number.NaN, "SIGTERM")
  for (const generation of generations) expect(await generation.ending()).toMatchObject({ error: "", tokens })
  expect(await Effect.runPromise(actor.ended)).toMatchObject({ how: "exit code 0" })
  expect(hostsOf(fleet.replicas("told"))).toEqual(["big"])
})

test("SIGTERM to a host ends its ranks where no supervisor is left to take them elsewhere", async () => {
  await using all = await Fleet.start({ hosts: [{ name: "last", drainMillis: 600_000 }] })
  await all.deploy(storedOf({ name: "orphaned", draft: null }, { replicas: { min: 1, max: 1, sessions: 8 } }))
  await all.until("orphaned", ({ replicas }) => replicas[0]?.state === "ready")
  kill(all.supervisors[0]?.actor.pid)
  const { actor } = all.hosts.get("last") ?? expect.fail("no host")
  process.kill(actor.pid || Number.NaN, "SIGTERM")
  expect(await Effect.runPromise(actor.ended)).toMatchObject({ how: "exit code 0" })
})

test("what a host has given up moves to another one, and the session goes on", async () => {
  await fleet.deploy(storedOf({ name: "failing", draft: null }))
  const { generations } = await begin("failing", 1, PLAIN)
  expect(hostsOf(fleet.replicas("failing"))).toEqual(["big"])
  const rank = () => fleet.beat("big")?.ranks.find(({ deployment }) => deployment === "failing")
  const killed = new Set<number>()
  const next = () => {
    const pid = rank()?.pid ?? 0
    return pid > 0 && !killed.has(pid) ? pid : undefined
  }
  while (killed.size < 6) {
    await expect.poll(next, WAIT).toBeDefined()
    const pid = next()
    if (pid !== undefined) kill(pid)
    killed.add(pid ?? 0)
    killed.delete(0)
  }
  await fleet.until("failing", (record) => hostsOf(record).join() === "small")
  expect(fleet.replicas("failing")).toMatchObject({
    epoch: 2,
    givenUp: [{ host: "big", group: "base", rank: 0, reason: expect.stringMatching(/SIGKILL; given up after 5/) }],
  })
  expect(await generations[0]?.ending()).toMatchObject({ error: "", tokens })
})

test("an unknown host is refused by its name, with those that there are", async () => {
  expect(await drain("nobody")).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/no host nobody: there is big, small/),
  })
  expect(await drain("big", "--undo")).toMatchObject({ code: 1, stderr: expect.stringMatching(/big does not drain/) })
})

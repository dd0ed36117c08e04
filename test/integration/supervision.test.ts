// The supervision tree with real processes and real signals: what ends or hangs is started again, what does so too often is
// given up, and a process that was suspended itself kills no other.
import { setTimeout as sleep } from "node:timers/promises"
import { Effect } from "effect"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import type { Generation } from "../../src/client/index.ts"
import { startActor } from "../../src/host/process.ts"
import { oneForOne } from "../../src/host/supervision.ts"
import type { InferRequest } from "../../src/wire/infer.ts"
import { commandLine } from "./commandLine.ts"
import { SAMPLED, TREE } from "./requests.ts"
import { Fleet, isAlive, kill, storedOf } from "./serverless.ts"

const REQUEST: InferRequest = {
  ...SAMPLED,
  maxTokens: 200,
  speculation: TREE,
}

const WAIT = { timeout: 60_000, interval: 50 }

const first = (generation: Generation) => generation[Symbol.asyncIterator]().next()

describe("a host", () => {
  let fleet: Fleet
  beforeAll(async () => {
    fleet = await Fleet.start({ hosts: [{ name: "a" }] })
  })
  afterEach(() => fleet.clear())
  afterAll(async () => {
    await fleet[Symbol.asyncDispose]()
  })

  const ranks = () => fleet.beat("a")?.ranks ?? []

  test("kills a rank that hangs and starts it again; its session goes on with the same tokens", async () => {
    await fleet.deploy(storedOf({ name: "hung" }))
    const client = await fleet.client("hung")
    const { tokens } = await (await client.generate(REQUEST)).ending()
    const survivor = await client.generate(REQUEST)
    await first(survivor)
    const hung = ranks().find(({ group }) => group === "draft")?.pid ?? 0
    process.kill(hung || Number.NaN, "SIGSTOP")
    await expect.poll(() => isAlive(hung), WAIT).toBe(false)
    const again = () => ranks().find(({ restarts, pid }) => restarts === 1 && pid > 0)
    await expect.poll(again, WAIT).toMatchObject({ reason: expect.stringMatching(/hung.* 1000 ms of silence/) })
    expect(await survivor.ending()).toMatchObject({ error: "", tokens })
  })

  test("that is suspended with all the machine kills no process when it wakes", async () => {
    await fleet.deploy(storedOf({ name: "slept" }))
    const client = await fleet.client("slept")
    const { tokens } = await (await client.generate(REQUEST)).ending()
    const generation = await client.generate(REQUEST)
    await first(generation)
    const actors = [...fleet.hosts.values(), ...fleet.supervisors].map(({ actor }) => actor.pid)
    const before = ranks().map(({ pid }) => pid)
    const all = [...before, ...actors].filter((pid) => pid > 0)
    for (const pid of all) process.kill(pid, "SIGSTOP")
    await sleep(3_000) // longer than anybody's patience with a rank
    for (const pid of all.toReversed()) process.kill(pid, "SIGCONT")
    expect(await generation.ending()).toMatchObject({ error: "", tokens })
    expect(await (await client.generate(REQUEST)).ending()).toMatchObject({ error: "", tokens })
    expect(ranks().map(({ pid, restarts }) => ({ pid, restarts }))).toEqual(before.map((pid) => ({ pid, restarts: 0 })))
  })
})

test("a child that keeps ending is given up, with the reason", async () => {
  const told: Array<string> = []
  const givenUp = await Effect.runPromise(
    oneForOne({
      name: "a rank",
      start: startActor({ name: "a rank", file: "rank.ts", environment: {} }),
      running: ({ pid }) => told.push(pid > 0 ? "running" : "not started"),
      restarting: (_, millis) => told.push(`again in ${millis} ms`),
    }),
  )
  expect(told.filter((line) => line === "running")).toHaveLength(6)
  expect(told.filter((line) => line.startsWith("again"))).toEqual(
    [100, 200, 400, 800, 1600].map((millis) => `again in ${millis} ms`),
  )
  expect(givenUp.message).toMatch(
    /a rank ended: the environment of a rank, which `chorus up` sets, is wrong.*given up after 5 restarts/s,
  )
})

describe("up", () => {
  const chorus = commandLine()
  afterAll(() => chorus.close())

  const up = async (name: string) => {
    const running = chorus.start(["up", "--json", "--port", "0", "--name", name, "--threads", "1"])
    const [line] = await running.says(/^\{.*\}$/m)
    return { running, ready: JSON.parse(line) }
  }

  /** The status of a completion; 0 where the port has no listener. */
  const complete = async (http: string, model: string): Promise<number> => {
    const body = JSON.stringify({ model, prompt: "export class", max_tokens: 4, temperature: 0 })
    const headers = { "content-type": "application/json" }
    const answer = await fetch(`${http}/v1/completions`, { method: "POST", headers, body }).catch(() => null)
    return answer?.status ?? 0
  }

  test("starts again whatever of its own is killed, or hangs, and serves on where it did", async () => {
    const { running, ready } = await up("tree")
    const serves = () => complete(ready.http, "tree")
    expect(await serves()).toBe(200)
    for (const actor of ["gateway", "natsServer", "supervisor", "host"]) {
      kill(ready.pids[actor])
      await expect.poll(() => isAlive(ready.pids[actor]), WAIT).toBe(false)
      await expect.poll(serves, WAIT).toBe(200)
    }
    const gateway = chorus.pidOf(/actors\/gateway/)
    process.kill(gateway ?? Number.NaN, "SIGSTOP")
    await expect.poll(() => isAlive(gateway ?? 0), WAIT).toBe(false)
    await expect.poll(serves, WAIT).toBe(200)
    running.child.kill("SIGTERM")
    const { code, stderr } = await running.ended
    expect(code).toBe(0)
    for (const name of ["the gateway", "nats-server", "the supervisor", "the host"]) {
      expect(stderr).toMatch(new RegExp(`^chorus: ${name} ended: .*started again in \\d+ ms`, "m"))
      expect(stderr).toMatch(new RegExp(`^chorus: ${name} runs again$`, "m"))
    }
    expect(stderr).toMatch(/the gateway ended: it hung: killed after 10000 ms of silence/)
    await expect.poll(() => [...chorus.processes(), ...chorus.files()], WAIT).toEqual([])
  })

  test("gives up what ends too often, says so, and leaves nothing behind, not even a restarted server's store", async () => {
    const { running, ready } = await up("given")
    kill(ready.pids.natsServer)
    await expect.poll(() => complete(ready.http, "given"), WAIT).toBe(200)
    const ended = new Set<number>()
    const gateway = () => {
      const pid = chorus.pidOf(/actors\/gateway/)
      return pid === undefined || ended.has(pid) ? undefined : pid
    }
    while (ended.size < 6) {
      await expect.poll(gateway, WAIT).toBeDefined()
      const pid = gateway()
      if (pid === undefined) continue
      kill(pid)
      ended.add(pid)
    }
    const { code, stderr } = await running.ended
    expect(code).toBe(1)
    expect(stderr).toMatch(/^chorus: the gateway ended: SIGKILL; given up after 5 restarts$/m)
    await expect.poll(() => [...chorus.processes(), ...chorus.files()], WAIT).toEqual([])
  })

  test("that is killed itself takes a restarted server and its store along", async () => {
    const { running, ready } = await up("orphan")
    kill(ready.pids.natsServer)
    await expect.poll(() => complete(ready.http, "orphan"), WAIT).toBe(200)
    running.child.kill("SIGKILL")
    await running.ended
    const stores = () => chorus.files().filter((file) => file.includes("nats"))
    await expect.poll(() => [...chorus.processes(), ...stores()], WAIT).toEqual([])
  })
})

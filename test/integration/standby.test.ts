// Standbys: a rank that is killed or hangs is replaced within its replica, by a process that has heard all of its KV. Hosts and
// supervisor are processes of their own, and so are the ranks that are killed here.
import { Result } from "effect"
import { afterAll, afterEach, beforeAll, expect, test } from "vitest"
import type { Client } from "../../src/client/index.ts"
import { RankBeat } from "../../src/wire/beat.ts"
import { codec } from "../../src/wire/codec.ts"
import type { StoredDeployment, Strategy } from "../../src/wire/deployment.ts"
import type { InferRequest } from "../../src/wire/infer.ts"
import { subjectsOf } from "../../src/wire/subjects.ts"
import { TREE } from "./requests.ts"
import { Fleet, isAlive, kill, storedOf } from "./serverless.ts"

const beats = codec("rank beat", RankBeat)

/** Long enough for several chunks of prefill. */
const PROMPT = Array.from({ length: 400 }, (_, i) => (i * i * 31 + 17 * i + 5) % 4000)
const REQUEST: InferRequest = {
  ...{ tokens: PROMPT, maxTokens: 160, temperature: 0.8, seed: 5n },
  speculation: TREE,
  ...{ repetitionPenalty: 1.05, frequencyPenalty: 0.3, ignoreEos: true },
}

let fleet: Fleet

beforeAll(async () => {
  fleet = await Fleet.start({
    hosts: [
      { name: "a", cores: 8 },
      { name: "b", cores: 2 },
    ],
  })
})
afterEach(() => fleet.clear())
afterAll(async () => {
  await fleet[Symbol.asyncDispose]()
})

const deploymentOf = (name: string, strategy: Strategy, ranks: number): StoredDeployment => {
  const stored = storedOf({ name, baseRanks: ranks, context: 1024 }, { replicas: { min: 1, max: 1, sessions: 8 } })
  return { ...stored, base: { ...stored.base, strategy }, standby: 1 }
}

/** The beats of a deployment's processes, until one is as wanted. */
const beat = async ({ connection }: Client, name: string, wanted: (beat: RankBeat) => boolean): Promise<RankBeat> => {
  for await (const { data } of connection.subscribe(subjectsOf(name).beats)) {
    const heard = beats.decode(data)
    if (Result.isSuccess(heard) && wanted(heard.success)) return heard.success
  }
  throw new Error("the connection was closed")
}

/** Ends when every group of the deployment has a standby that is ready. */
const guarded = async (client: Client, name: string): Promise<void> => {
  await fleet.until(name, ({ replicas }) => replicas[0]?.standbys.length === 2)
  const [replica] = fleet.replicas(name).replicas
  for (const { group, member } of replica?.standbys ?? []) {
    const ready = (heard: RankBeat) => heard.group === group && heard.rank === member && heard.state === "standby"
    await beat(client, name, ready)
  }
}

const whole = async (client: Client) => (await client.generate(REQUEST)).ending()

/** The request once more; one of its ranks gets a signal when it has said some tokens. */
const disturbed = async (client: Client, name: string, group: string, rank: number, signal: NodeJS.Signals) => {
  const epoch = fleet.replicas(name).replicas[0]?.formed
  const { pid } = await beat(
    client,
    name,
    (heard) => heard.group === group && heard.rank === rank && heard.epoch === epoch && heard.state === "ready",
  )
  const generation = await client.generate(REQUEST)
  const reading = generation[Symbol.asyncIterator]()
  for (let said = 0; said < 20; said++) await reading.next()
  if (signal === "SIGKILL") kill(pid)
  else process.kill(pid, signal)
  return { ending: await generation.ending(), pid }
}

test.each([
  ["single", 1],
  ["pipeline", 2],
  ["layer", 2],
] as const)("a rank of %s on %i that is killed is replaced, and not a token is another", async (strategy, ranks) => {
  const name = `killed-${strategy}`
  await fleet.deploy(deploymentOf(name, strategy, ranks))
  const client = await fleet.client(name)
  const undisturbed = await whole(client)
  await guarded(client, name)
  const before = fleet.replicas(name).replicas[0]
  for (const rank of Array.from({ length: ranks }).keys()) {
    const { ending } = await disturbed(client, name, "base", rank, "SIGKILL")
    expect(ending).toMatchObject({ error: "", tokens: undisturbed.tokens })
    // What the standby lacked is one chunk, the prompt would be four.
    const chunks = (undisturbed.stats.passes.prefill?.count ?? 0) + 2
    expect(ending.stats.passes.prefill?.count).toBeLessThanOrEqual(chunks)
    await guarded(client, name)
  }
  const { ending } = await disturbed(client, name, "draft", 1, "SIGKILL")
  expect(ending).toMatchObject({ error: "", tokens: undisturbed.tokens })
  const [after, ...others] = fleet.replicas(name).replicas
  expect(others).toEqual([])
  expect(after).toMatchObject({ epoch: before?.epoch, state: "ready" })
  const replaced = after?.ranks.filter(({ group, rank, member }) => group === "base" && member !== rank)
  expect(replaced?.length).toBe(ranks)
})

test("a rank that hangs is replaced, and goes unheard when it wakes up", async () => {
  await fleet.deploy(deploymentOf("hung", "pipeline", 2))
  const client = await fleet.client("hung")
  const undisturbed = await whole(client)
  await guarded(client, "hung")
  const { ending, pid } = await disturbed(client, "hung", "base", 1, "SIGSTOP")
  expect(ending).toMatchObject({ error: "", tokens: undisturbed.tokens })
  if (isAlive(pid)) process.kill(pid, "SIGCONT")
  expect((await whole(client)).tokens).toEqual(undisturbed.tokens)
  await expect.poll(() => isAlive(pid)).toBe(false)
})

test("a standby is on another host than its group, and goes where it is not wanted any more", async () => {
  const deployment = deploymentOf("apart", "pipeline", 2)
  await fleet.deploy(deployment)
  const client = await fleet.client("apart")
  await guarded(client, "apart")
  const [replica] = fleet.replicas("apart").replicas
  expect(new Set(replica?.ranks.map(({ host }) => host))).toEqual(new Set(["a"]))
  expect(new Set(replica?.standbys.map(({ host }) => host))).toEqual(new Set(["b"]))
  await fleet.deploy({ ...deployment, standby: 0 })
  await fleet.until("apart", ({ replicas }) => replicas[0]?.standbys.length === 0)
  expect(fleet.replicas("apart").replicas).toMatchObject([{ epoch: replica?.epoch, state: "ready" }])
  await expect.poll(() => fleet.beat("b")?.ranks).toEqual([])
})

test("it hears KV while a session runs and holds none afterwards; where there is no standby, no rank says a word", async () => {
  const { standby: _, ...alone } = deploymentOf("heard", "single", 1)
  await fleet.deploy(alone)
  const client = await fleet.client("heard")
  const said = (heard: RankBeat) => heard.group === "base" && heard.rank === 0 && heard.state === "ready"
  await whole(client)
  expect(await beat(client, "heard", said)).toMatchObject({ kvMessages: 0, kvBytes: 0 })
  await fleet.deploy({ ...alone, standby: 1 }) // its ranks stay as they are
  await guarded(client, "heard")
  const listens = (heard: RankBeat) => heard.group === "base" && heard.state === "standby"
  const holding = beat(client, "heard", (heard) => listens(heard) && heard.sessions === 1 && heard.bytesOfKv > 0)
  await whole(client)
  await holding
  await beat(client, "heard", (heard) => listens(heard) && heard.sessions === 0 && heard.bytesOfKv === 0)
  expect((await beat(client, "heard", said)).kvMessages).toBeGreaterThan(0)
  expect(fleet.replicas("heard").replicas).toMatchObject([{ epoch: 1, formed: 1 }])
})

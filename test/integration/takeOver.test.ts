// Sessions outlive their supervisor: killed, told to go, or stopped past its lease and awake again. A reader sees the
// tokens of an undisturbed run, each once; and a log that has lost its tail gets the same tokens again.
import { jetstreamManager } from "@nats-io/jetstream"
import { Kvm } from "@nats-io/kv"
import { afterAll, beforeAll, expect, test } from "vitest"
import type { Client, Generation } from "../../src/client/index.ts"
import { entryAt, follow } from "../../src/store/logReader.ts"
import type { InferRequest, LogEntry } from "../../src/wire/infer.ts"
import { subjectsOf, TOKEN_STREAM } from "../../src/wire/subjects.ts"
import { PROMPT, TREE } from "./requests.ts"
import { Fleet, storedOf } from "./serverless.ts"

const NAME = "durable"
const TOKENS = 600
/** Longer than a supervisor takes to start. */
const LONG: InferRequest = {
  ...{ prompt: PROMPT, maxTokens: TOKENS, temperature: 0.8, seed: 5n },
  speculation: TREE,
  ...{ presencePenalty: 0.3, frequencyPenalty: 0.05, logitBias: { 13: -1 }, minTokens: TOKENS }, // what they count goes on too
}
const SHORT: InferRequest = { ...LONG, maxTokens: 8, minTokens: 8 }
const ENOUGH = 12 // tokens: the session runs for certain, and is far from its end

let fleet: Fleet
let client: Client
let whole: ReadonlyArray<number> // the tokens of an undisturbed run

beforeAll(async () => {
  fleet = await Fleet.start({ hosts: [{ name: "a" }] })
  const replicas = { min: 1, max: 1, sessions: 8 }
  await fleet.deploy(storedOf({ name: NAME, context: 1024 }, { replicas, kvTokens: 8192 }))
  client = await fleet.client(NAME)
  whole = (await (await client.generate(LONG)).ending()).tokens
  expect(whole).toHaveLength(TOKENS)
})
afterAll(async () => {
  await fleet[Symbol.asyncDispose]()
})

const pidOf = (supervisor: Fleet["supervisors"][number] | undefined): number => supervisor?.actor.pid || Number.NaN

/** Sessions, each as far as a test needs them, with what reads them. */
const running = (count: number): Promise<ReadonlyArray<{ generation: Generation; read: Promise<Array<number>> }>> =>
  Promise.all(
    Array.from({ length: count }, async () => {
      const generation = await client.generate(LONG)
      let enough = (): void => {}
      const under = new Promise<void>((resolve) => (enough = resolve))
      const reading = async () => {
        const tokens: Array<number> = []
        for await (const { id } of generation) if (tokens.push(id) === ENOUGH) enough()
        return tokens
      }
      const read = reading()
      await under
      return { generation, read }
    }),
  )

const logOf = async (session: string): Promise<ReadonlyArray<LogEntry>> => {
  const entries: Array<LogEntry> = []
  for await (const { entry } of follow(client.connection, subjectsOf(NAME).tokens(session))) entries.push(entry)
  return entries
}

/** The log's own order: every token once, and no former owner writes. */
const check = async (session: string, read: ReadonlyArray<number>): Promise<number> => {
  expect(read.filter((id) => id >= 0)).toEqual(whole)
  const entries = await logOf(session)
  expect(entries.flatMap((entry) => (entry._tag === "Tokens" ? entry.tokens.map(({ id }) => id) : []))).toEqual(whole)
  const epochs = entries.map(({ epoch }) => epoch)
  expect(epochs).toEqual([...epochs].sort((a, b) => a - b))
  expect(entries.at(-1)).toMatchObject({ _tag: "End", finishReason: "length", error: "" })
  return epochs.at(-1) ?? 0
}

const records = async (): Promise<ReadonlyArray<string>> => {
  const kv = await new Kvm(client.connection).open("chorus_executions")
  const keys: Array<string> = []
  for await (const key of await kv.keys()) keys.push(key)
  return keys
}

const nothingIsLeft = async () => {
  await expect.poll(records).toEqual([])
  const busy = () => (fleet.beat("a")?.ranks ?? []).length
  expect(busy()).toBeGreaterThan(0)
}

test("killed: another one that is there goes on with its sessions", async () => {
  const sessions = await running(3)
  await fleet.supervisor()
  process.kill(pidOf(fleet.supervisors[0]), "SIGKILL")
  for (const { generation, read } of sessions) expect(await check(generation.session, await read)).toBe(2)
  await nothingIsLeft()
})

test("killed: one that comes later goes on with its sessions, and answers those that wait for the whole answer", async () => {
  const [session] = await running(1)
  const answer = client.complete(LONG)
  await expect.poll(async () => (await records()).length).toBe(2)
  process.kill(pidOf(fleet.supervisors[1]), "SIGKILL")
  await fleet.supervisor()
  expect((await answer).tokens).toEqual(whole)
  expect(await check(session?.generation.session ?? "", (await session?.read) ?? [])).toBe(2)
  await nothingIsLeft()
})

test("told to go: what does not end in time is handed over", async () => {
  await fleet.supervisor()
  const two = fleet.supervisors.slice(2)
  const sessions = await running(6)
  process.kill(pidOf(two[0]), "SIGTERM")
  for (const { generation, read } of sessions) await check(generation.session, await read)
  await nothingIsLeft()
})

test("stopped past its lease: it wakes up, writes nothing more, and goes on serving others", async () => {
  const owner = fleet.supervisors[3]
  const sessions = await running(2)
  await fleet.supervisor()
  process.kill(pidOf(owner), "SIGSTOP")
  for (const { generation } of sessions) {
    const subject = subjectsOf(NAME).tokens(generation.session)
    await expect.poll(async () => (await entryAt(client.connection, subject, "last"))?.entry.epoch).toBe(2)
  }
  process.kill(pidOf(owner), "SIGCONT")
  for (const { generation, read } of sessions) expect(await check(generation.session, await read)).toBe(2)
  await nothingIsLeft()
  const short = await Promise.all(Array.from({ length: 8 }, () => client.complete(SHORT)))
  for (const { tokens } of short) expect(tokens).toEqual(whole.slice(0, 8))
})

test("a log that has lost its tail is healed with the same tokens", async () => {
  const [session] = await running(1)
  if (session === undefined) throw new Error("no session")
  const subject = subjectsOf(NAME).tokens(session.generation.session)
  const manager = await jetstreamManager(client.connection)
  for (let lost = 0; lost < 3; lost++) {
    const last = await entryAt(client.connection, subject, "last")
    await manager.streams.deleteMessage(TOKEN_STREAM, last?.sequence ?? 0)
  }
  expect(await check(session.generation.session, await session.read)).toBe(1)
})

test("cancelled while it has no owner: the supervisor that takes it over ends it", async () => {
  // Some of them on either supervisor.
  const sessions = await Promise.all(Array.from({ length: 8 }, async () => (await client.generate(LONG)).session))
  process.kill(pidOf(fleet.supervisors[3]), "SIGKILL")
  for (const session of sessions) client.cancel(session)
  for (const session of sessions) {
    expect((await logOf(session)).at(-1)).toMatchObject({ _tag: "End", finishReason: "cancelled" })
  }
  await nothingIsLeft()
})

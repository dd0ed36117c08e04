// A session that takes its ranks down is refused at the third time, and sessions that shared them with it go on. What takes them
// down here is a real SIGKILL, sent whenever the session's first pass on new ranks is seen.
import { Result } from "effect"
import { afterAll, beforeAll, expect, test } from "vitest"
import { lossesOf } from "../../src/generation/losses.ts"
import { follow } from "../../src/store/logReader.ts"
import { RankBeat } from "../../src/wire/beat.ts"
import { codec } from "../../src/wire/codec.ts"
import type { InferRequest, LogEntry } from "../../src/wire/infer.ts"
import { PassCommand } from "../../src/wire/pass.ts"
import { groupSubjects, subjectsOf } from "../../src/wire/subjects.ts"
import { SAMPLED, TREE } from "./requests.ts"
import { Fleet, kill, storedOf } from "./serverless.ts"

const REQUEST: InferRequest = { ...SAMPLED, maxTokens: 200 }
const POISON: InferRequest = { ...REQUEST, prompt: "export class Poison<T> {}\n".repeat(80), maxTokens: 40 } // many passes long

const commands = codec("pass command", PassCommand)
const beats = codec("rank beat", RankBeat)

let fleet: Fleet
beforeAll(async () => {
  fleet = await Fleet.start({ hosts: [{ name: "a" }] })
  await fleet.deploy(storedOf({ name: "shared", draft: null, context: 1024 }, { kvTokens: 4096 }))
})
afterAll(async () => {
  await fleet[Symbol.asyncDispose]()
})

test("it ends with a typed reason after three times, and the others with their tokens", async () => {
  const client = await fleet.client("shared")
  const { tokens } = await (await client.generate(REQUEST)).ending()
  const { connection } = client
  const { pass, beat } = groupSubjects({ deployment: "shared", epoch: 1, group: "base" })
  let pid = 0 // of the rank, which says so before it is asked for anything
  const hears = connection.subscribe(beat(0), {
    callback: (_, { data }) => {
      pid = Result.getOrThrow(beats.decode(data)).pid
    },
  })
  await expect.poll(() => pid).toBeGreaterThan(0)
  const poison = await client.generate(POISON)
  const killed = new Set<number>()
  const strikes = connection.subscribe(pass, {
    callback: (_, { data }) => {
      const command = Result.getOrThrow(commands.decode(data))
      if (!("session" in command && command.session === poison.session) || killed.has(pid)) return
      killed.add(pid)
      kill(pid)
    },
  })
  const innocent = await client.generate(REQUEST)
  const { finishReason, error } = await poison.ending()
  for (const subscription of [hears, strikes]) subscription.unsubscribe()
  expect(finishReason).toBe("failed")
  expect(error).toMatch(
    /has brought down its ranks 3 times at token \d+ \(group base did not answer: .*not tried again/,
  )
  expect(killed.size).toBe(3)
  expect(await innocent.ending()).toMatchObject({ error: "", tokens })

  const entries: Array<LogEntry> = []
  for await (const { entry } of follow(connection, subjectsOf("shared").tokens(poison.session))) entries.push(entry)
  expect(lossesOf(entries).count).toBe(3)
  expect(await (await client.generate(REQUEST)).ending()).toMatchObject({ error: "", tokens })
})

test("a draft that a session takes down twice is left alone by it, and the tokens are the same", async () => {
  await fleet.clear()
  await fleet.deploy(storedOf({ name: "paired" }))
  const client = await fleet.client("paired")
  const drafting: InferRequest = { ...REQUEST, maxTokens: 48, speculation: TREE }
  const { tokens, error } = await (await client.generate(drafting)).ending()
  expect(error).toBe("")
  const killed = new Set<number>()
  const { pass } = groupSubjects({ deployment: "paired", epoch: 0, group: "draft" })
  const generation = await client.generate(drafting)
  const watch = client.connection.subscribe(pass.replace(".0.", ".*."), {
    callback: (_, { data }) => {
      const command = Result.getOrThrow(commands.decode(data))
      if (!("session" in command) || command.session !== generation.session) return // a pass that shows its health
      const rank = fleet.beat("a")?.ranks.find(({ pid, group }) => pid > 0 && group === "draft")
      if (rank === undefined || killed.has(rank.pid)) return
      killed.add(rank.pid)
      kill(rank.pid)
    },
  })
  const struck = await generation.ending()
  watch.unsubscribe()
  expect(struck).toMatchObject({ error: "", tokens })
  expect(killed.size).toBe(2)
})

// Several replicas and two supervisors: a chat's next turn goes where its KV is, whichever is asked, and what ended sessions have
// left gives way to those that run.
import { Result } from "effect"
import { afterAll, beforeAll, expect, test } from "vitest"
import { RankBeat, SupervisorBeat } from "../../src/wire/beat.ts"
import { codec } from "../../src/wire/codec.ts"
import type { InferRequest } from "../../src/wire/infer.ts"
import { subjectsOf } from "../../src/wire/subjects.ts"
import { TREE } from "./requests.ts"
import { Fleet, storedOf } from "./serverless.ts"

const NAME = "chats"
const TOKENS = 24
const asks = {
  ...{ temperature: 0.8, seed: 7n, maxTokens: TOKENS, speculation: TREE },
  ...{ presencePenalty: 0.5, frequencyPenalty: 0.5, ignoreEos: true }, // of what has been said in this turn
}

let fleet: Fleet

beforeAll(async () => {
  fleet = await Fleet.start({ hosts: [{ name: "a" }], supervisors: 2 })
  const replicas = { min: 2, max: 2, sessions: 8 }
  await fleet.deploy({ ...storedOf({ name: NAME }, { replicas, kvTokens: 1_200 }), keepMillis: 60_000 })
  await fleet.deploy(storedOf({ name: "plain" }))
  await fleet.until(NAME, ({ replicas }) => replicas.filter(({ state }) => state === "ready").length === 2)
})
afterAll(async () => {
  await fleet[Symbol.asyncDispose]()
})

const words = (chat: number, turn: number, count: number) =>
  Array.from({ length: count }, (_, i) => 5 + ((chat * 911 + turn * 131 + i * 37) % 4000))

/** Sessions that the base of each replica holds, when it next says so. */
const held = async (): Promise<ReadonlyMap<number, number>> => {
  const { connection } = await fleet.client(NAME)
  const beats = codec("rank beat", RankBeat)
  const sessions = new Map<number, number>()
  for await (const { data } of connection.subscribe(subjectsOf(NAME).beats)) {
    const beat = beats.decode(data)
    if (Result.isSuccess(beat) && beat.success.group === "base") sessions.set(beat.success.epoch, beat.success.sessions)
    if (sessions.size === 2) break
  }
  return sessions
}

/** The beats of both supervisors, until they are as wanted. */
const supervisors = async (wanted: (beats: ReadonlyArray<SupervisorBeat>) => boolean) => {
  const { connection } = await fleet.client(NAME)
  const beats = codec("supervisor beat", SupervisorBeat)
  const newest = new Map<string, SupervisorBeat>()
  for await (const { data } of connection.subscribe(subjectsOf(NAME).beat("supervisor.*"))) {
    const beat = Result.getOrThrow(beats.decode(data))
    newest.set(beat.id, beat)
    if (newest.size === 2 && wanted([...newest.values()])) return [...newest.values()]
  }
  throw new Error("the beats have ended")
}

test("each turn of a chat finds the KV of the one before, and the answers are those of a prefill", async () => {
  const [client, plain] = [await fleet.client(NAME), await fleet.client("plain")]
  await supervisors((beats) => beats.every(({ kvTokensTotal }) => kvTokensTotal === 1_200)) // they know of each other
  const chats = [words(0, 0, 100), words(1, 0, 100)]
  // The first one goes past a session that runs, and the other one where that has been: each has a replica of its own.
  const inTheWay = await client.generate({ ...asks, tokens: words(50, 0, 20), maxTokens: 300 })
  await inTheWay[Symbol.asyncIterator]().next()
  const first = [await client.complete({ ...asks, tokens: chats[0] ?? [] })]
  inTheWay.cancel()
  await inTheWay.ending()
  first.push(await client.complete({ ...asks, tokens: chats[1] ?? [] }))
  await expect.poll(async () => [...(await held()).values()]).toEqual([1, 1])
  for (const [chat, answer] of first.entries()) chats[chat]?.push(...answer.tokens)
  for (let turn = 1; turn < 6; turn++) {
    for (const [chat, tokens] of chats.entries()) {
      const before = tokens.length
      tokens.push(...words(chat, turn, 10))
      const answer = await client.complete({ ...asks, tokens })
      expect(answer.tokens).toEqual((await plain.complete({ ...asks, tokens })).tokens)
      expect(answer.stats.reusedTokens).toBeGreaterThanOrEqual(before - 16)
      tokens.push(...answer.tokens)
    }
  }
  // Whose log-probabilities are wanted is computed, whatever is kept.
  const scored: InferRequest = { tokens: chats[0] ?? [], maxTokens: 0, promptLogprobs: 1 }
  const { prompt, stats } = await client.complete(scored)
  expect(stats.reusedTokens).toBe(0)
  expect(prompt).toHaveLength(chats[0]?.length ?? 0)
  expect(prompt).toEqual((await plain.complete(scored)).prompt)
})

test("what is kept leaves when its room is needed, and no session waits for it", async () => {
  const client = await fleet.client(NAME)
  const long = Array.from({ length: 8 }, (_, chat) => words(7 + chat, 0, 300))
  const answers = await Promise.all(long.map((tokens) => client.complete({ ...asks, tokens })))
  for (const { finishReason, stats } of answers) {
    expect(finishReason).toBe("length")
    expect(stats.reusedTokens).toBe(0)
  }
  const after = await supervisors((beats) => beats.every(({ sessions, waiting }) => sessions + waiting === 0))
  for (const { kvTokensKept } of after) expect(kvTokensKept).toBeLessThanOrEqual(1_200)
  expect(after.reduce((sum, { kvTokensKept }) => sum + kvTokensKept, 0)).toBeGreaterThan(300)
})

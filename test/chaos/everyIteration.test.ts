// A rank is killed in each of the first twenty iterations of one generation, at temperature 0.8: the tokens are those of the
// undisturbed run with the same seed.
import { afterAll, beforeAll, expect, test } from "vitest"
import type { InferRequest } from "../../src/client/index.ts"
import { follow } from "../../src/store/logReader.ts"
import { subjectsOf } from "../../src/wire/subjects.ts"
import { PROMPT, TREE } from "../integration/requests.ts"
import { Fleet, kill, storedOf } from "../integration/serverless.ts"

const ITERATIONS = 20
const REQUEST: InferRequest = {
  ...{ prompt: PROMPT, maxTokens: 200, temperature: 0.8, seed: 11n },
  speculation: TREE,
  ...{ presencePenalty: 0.3, frequencyPenalty: 0.1, minTokens: 200 },
}
const NAME = "struck"

let fleet: Fleet
beforeAll(async () => {
  fleet = await Fleet.start({ hosts: [{ name: "a" }, { name: "b" }] })
  await fleet.deploy(storedOf({ name: NAME }, { replicas: { min: 1, max: 1, sessions: 8 }, idleTimeoutMillis: null }))
  await fleet.until(NAME, ({ replicas }) => replicas[0]?.state === "ready")
})
afterAll(() => fleet?.[Symbol.asyncDispose]())

/** Of the only replica, the base's rank and the draft's in turn. One that ends too often is given up, and others are placed. */
const victim = (iteration: number): number | undefined => {
  const ranks = ["a", "b"].flatMap((host) => fleet.beat(host)?.ranks ?? []).filter(({ pid }) => pid > 0)
  return ranks[iteration % ranks.length]?.pid
}

test("a rank killed in each of the first twenty iterations costs no token", async () => {
  const client = await fleet.client(NAME)
  const undisturbed = await (await client.generate(REQUEST)).ending()
  const generation = await client.generate(REQUEST)
  let killed = 0
  for await (const { entry } of follow(client.connection, subjectsOf(NAME).tokens(generation.session))) {
    if (entry._tag !== "Tokens" || killed === ITERATIONS) continue
    kill(victim(killed++))
  }
  const ending = await generation.ending()
  expect(killed).toBe(ITERATIONS)
  expect(ending).toMatchObject({ error: "", finishReason: undisturbed.finishReason, tokens: undisturbed.tokens })
})

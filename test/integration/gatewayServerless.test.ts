// A gateway in front of deployments that come and go: it lists them while no rank runs, its first request starts them, and
// one that no host has room for is refused with the reason.
import OpenAI from "openai"
import { afterAll, beforeAll, expect, test } from "vitest"
import { type Gateway, startGateway } from "./gateways.ts"
import { PROMPT } from "./requests.ts"
import { Fleet, storedOf } from "./serverless.ts"

let fleet: Fleet
let gateway: Gateway
let openai: OpenAI
beforeAll(async () => {
  fleet = await Fleet.start({ hosts: [{ name: "a" }] })
  gateway = await startGateway(fleet)
  openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "none", maxRetries: 0 })
})
afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]()
  await fleet[Symbol.asyncDispose]()
})

const request = (model: string) => ({ model, prompt: PROMPT, max_tokens: 8, temperature: 0 })

test("the first request of a cold deployment starts its ranks, and the gateway is ready all the while", async () => {
  await fleet.deploy(storedOf({ name: "cold", draft: null }))
  await fleet.deploy(storedOf({ name: "other", draft: null }))
  const names = async () => (await openai.models.list()).data.map(({ id }) => id)
  await expect.poll(names).toEqual(["cold", "other"])
  const ready = await (await fetch(`${gateway.url}/readyz`)).json()
  expect(ready).toMatchObject({ status: "ready", deployments: [{ name: "cold", state: "idle", ranks: 0 }, {}] })

  const pieces: Array<string> = []
  for await (const { choices } of await openai.completions.create({ ...request("cold"), stream: true })) {
    pieces.push(choices[0]?.text ?? "")
  }
  const warm = await openai.completions.create(request("cold"))
  expect(pieces.join("")).toBe(warm.choices[0]?.text)
  const state = async () => (await fetch(`${gateway.url}/readyz`)).text()
  await expect.poll(state).toContain('"state":"ready"')
})

test("one that no host has room for is refused, with the reason", async () => {
  const stored = storedOf({ name: "large", draft: null })
  await fleet.deploy({ ...stored, base: { ...stored.base, threads: 4_096 } })
  const ask = () => openai.completions.create(request("large")).catch((error) => error)
  await expect.poll(ask).toMatchObject({ status: 503, message: expect.stringMatching(/wants 4096 threads/) })
})

test("one that is removed is served no more", async () => {
  await fleet.remove("other")
  const ask = () => openai.completions.create(request("other")).catch((error) => error)
  await expect.poll(ask).toMatchObject({ status: 503, code: "not_served" })
})

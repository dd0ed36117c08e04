// Health is a pass that ran. A model's file that loses its bytes under ranks that say they are ready is noticed without any
// request, since a pass is sent where nothing has computed for a while.
import { cp, mkdtemp, rm, truncate } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { DEMO } from "./cluster.ts"
import { Fleet, storedOf } from "./serverless.ts"

const WAIT = { timeout: 90_000, interval: 100 }

let folder: string
let fleet: Fleet
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "chorus-health-"))
  await cp(DEMO.base, folder, { recursive: true, dereference: true })
  fleet = await Fleet.start({ hosts: [{ name: "a" }] })
})
afterAll(async () => {
  await fleet[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
})

test("an idle replica whose device cannot compute any more is not ready any more", async () => {
  const scaling = { replicas: { min: 1, max: 1, sessions: 8 } }
  await fleet.deploy(storedOf({ name: "sick", base: folder, draft: null }, scaling))
  await fleet.until("sick", ({ replicas }) => replicas[0]?.state === "ready")
  const ran = () => fleet.beat("a")?.ranks[0]
  const pid = ran()?.pid
  await truncate(join(folder, "model.safetensors"), 4096)
  await expect.poll(() => ran()?.pid, WAIT).not.toBe(pid) // the pass has ended the rank: its pages are gone
  await fleet.until("sick", ({ replicas }) => replicas.length === 0)
  await fleet.until("sick", ({ failure }) => failure !== null)
  expect(fleet.replicas("sick").failure?.reason).toMatch(/4096 bytes|rank 0 of base/)
})

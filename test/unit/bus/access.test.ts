// Which key a process shows: the one of its role in a folder that it is given, or what its environment says; and what it
// hands to those that it starts.
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { afterAll, beforeAll, expect, test } from "vitest"
import { accessOf, keyIn, natsEnvironment, OPEN, rankAccess } from "../../../src/bus/access.ts"
import { makeKeys } from "../../../src/natsServer/keyFolder.ts"

const folder = mkdtempSync(join(tmpdir(), "chorus-test-access-"))
const keys = join(folder, "keys")
const key = (...path: ReadonlyArray<string>) => join(keys, ...path)
beforeAll(() =>
  Effect.runPromise(makeKeys({ folder: keys, deployments: ["coder"], clients: ["alice"], servers: ["localhost"] })),
)
afterAll(() => rmSync(folder, { recursive: true }))

test("a folder may have all roles, or be that of one", () => {
  const expected = { key: key("supervisor/supervisor.nk"), ca: key("supervisor/ca.pem") }
  expect(keyIn(keys, "supervisor")).toEqual(expected)
  expect(keyIn(key("supervisor"), "supervisor")).toEqual(expected)
  expect(keyIn(null, "supervisor")).toEqual(OPEN)
})

test("an operator with no more than a client's key shows that; no other role does", () => {
  expect(keyIn(key("client-alice"), "operator").key).toBe(key("client-alice/client.nk"))
  expect(keyIn(key("client-alice"), "supervisor").key).toBe(key("client-alice/supervisor.nk")) // there is none, and that is said
})

test("a folder that is given goes before the environment, and a key there before a folder there", () => {
  const environment = { CHORUS_NATS_KEY: "/one.nk", CHORUS_NATS_CA: "/ca.pem", CHORUS_NATS_KEYS: "/others" }
  expect(accessOf("host", keys, environment).key).toBe(key("host/host.nk"))
  expect(accessOf("host", null, environment)).toEqual({ key: "/one.nk", ca: "/ca.pem" })
  expect(accessOf("host", null, { CHORUS_NATS_KEYS: keys }).key).toBe(key("host/host.nk"))
  expect(accessOf("host", null, {})).toEqual(OPEN)
})

test("a rank is handed its deployment's key, or that of those without one, and no folder", () => {
  const host = keyIn(keys, "host")
  expect(rankAccess(host, "coder").key).toBe(key("host/rank-coder.nk"))
  expect(rankAccess(host, "demo").key).toBe(key("host/rank.nk"))
  expect(rankAccess(OPEN, "demo")).toEqual(OPEN)
  expect(natsEnvironment("nats://x", rankAccess(host, "coder"))).toEqual({
    ...{ CHORUS_NATS: "nats://x", CHORUS_NATS_KEY: key("host/rank-coder.nk"), CHORUS_NATS_CA: key("host/ca.pem") },
    CHORUS_NATS_KEYS: "",
  })
})

// API keys: what a file may hold, which clients have one, and that a gateway does not start with a file that would let all in.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Result } from "effect"
import { afterAll, expect, test } from "vitest"
import { readEnvironment } from "../../../src/gateway/environment.ts"
import { keyOf, parseKeys } from "../../../src/gateway/keys.ts"

const folder = mkdtempSync(join(tmpdir(), "chorus-test-"))
afterAll(() => rmSync(folder, { recursive: true }))

const KEYS = parseKeys("# ours\nalice sk-1\n\n  sk-2   # no name\r\nbob\tsk-3")

test("a key a line, with a name or without; only a whole key is one", () => {
  expect(KEYS.map(({ name }) => name)).toEqual(["alice", expect.stringMatching(/^key-[0-9a-f]{8}$/), "bob"])
  expect(["Bearer sk-1", "bearer  sk-3 "].map((given) => keyOf(KEYS, given)?.name)).toEqual(["alice", "bob"])
  for (const given of [
    undefined,
    "",
    "sk-1",
    "Bearer ",
    "Bearer sk-",
    "Bearer sk-1 sk-2",
    "Basic sk-1",
    "Bearer alice",
  ]) {
    expect(keyOf(KEYS, given)).toBeUndefined()
  }
})

test("nothing of a key is kept but its hash", () => {
  const kept = JSON.stringify(KEYS.map(({ name, hash }) => [name, Buffer.from(hash).toString("latin1")]))
  expect(kept).not.toContain("sk-")
})

const of = (environment: Record<string, string>) => readEnvironment({ CHORUS_NATS: "nats://x", ...environment })

test("keys come from the environment, from a file, or from both", () => {
  const file = join(folder, "keys.txt")
  writeFileSync(file, "carol sk-4\n")
  const options = Result.getOrThrow(of({ CHORUS_API_KEYS: "sk-5, dave sk-6", CHORUS_API_KEYS_FILE: file }))
  expect(options.keys.map(({ name }) => name)).toEqual([expect.stringMatching(/^key-/), "dave", "carol"])
})

test("a file without a key, or none at all, is refused", () => {
  const file = join(folder, "empty.txt")
  writeFileSync(file, "# none yet\n")
  const reasonOf = (path: string) => Result.getOrThrow(Result.flip(of({ CHORUS_API_KEYS_FILE: path }))).message
  expect(reasonOf(file)).toMatch(/empty\.txt has no API key/)
  expect(reasonOf(join(folder, "nowhere.txt"))).toMatch(/cannot read the API keys.*nowhere\.txt/)
})

test("the rest has defaults, and bounds", () => {
  expect(Result.getOrThrow(of({}))).toEqual({
    ...{ url: "nats://x", host: "127.0.0.1", port: 8080, keys: [], requestsPerMinute: null },
    ...{ requestMillis: 600_000, bodyLimit: 2 ** 20, keepAliveMillis: 15_000, corsOrigins: [], strict: false },
  })
  for (const wrong of [{ CHORUS_HTTP_PORT: "65536" }, { CHORUS_HTTP_PORT: "80.5" }, { CHORUS_HTTP_TIMEOUT: "soon" }]) {
    const [name = ""] = Object.keys(wrong)
    expect(Result.getOrThrow(Result.flip(of(wrong))).message).toContain(name)
  }
})

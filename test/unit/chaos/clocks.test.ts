// A clock that is set ends no lease: whatever measures how long something lasts reads the monotonic one.
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, test } from "vitest"

const SRC = join(import.meta.dirname, "../../../src")

/** Leases, liveness, beats, and what waits for either. */
const MONOTONIC = [
  "store/lease.ts",
  "group/group.ts",
  ...["liveness.ts", "ownership.ts", "presence.ts", "store.ts"].map((file) => `durable/${file}`),
  "host/hosts.ts",
  "controller/observations.ts",
  "session/admissionQueue.ts",
  "replica/prefixCache.ts",
  "gateway/beats.ts",
]

test.each(MONOTONIC)("%s reads no wall clock", (file) => {
  const text = readFileSync(join(SRC, file), "utf8")
  expect(text.match(/\bDate\.now\b|\bnew Date\b|\bcurrentTimeMillis\b/g)).toBeNull()
})

test("every file of a lease or of liveness is among them", () => {
  const named = ["store", "durable"].flatMap((folder) =>
    readdirSync(join(SRC, folder))
      .filter((file) => /lease|liveness|presence|ownership/i.test(file))
      .map((file) => `${folder}/${file}`),
  )
  expect(MONOTONIC).toEqual(expect.arrayContaining(named))
})

// The files by which `ps` finds what `up` runs: there while it runs, gone after, and never believed when stale.
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { announce, folderOf, running } from "../../../src/cli/runtimeState.ts"

const inFolder = <A, E>(body: (folder: string) => Effect.Effect<A, E>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "chorus-test-"))),
    (root) => body(join(root, "chorus")),
    (root) => Effect.sync(() => rmSync(root, { recursive: true })),
  )

it.effect("is seen while the scope is open, and leaves nothing behind", () =>
  inFolder((folder) =>
    Effect.gen(function* () {
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* announce(folder, { name: "demo", nats: "nats://127.0.0.1:1", keys: null })
          expect(running(folder)).toMatchObject([{ name: "demo", nats: "nats://127.0.0.1:1", pid: process.pid }])
          const again = yield* Effect.flip(
            Effect.scoped(announce(folder, { name: "demo", nats: "nats://127.0.0.1:2", keys: null })),
          )
          expect(again.message).toContain(`demo runs here already, as process ${process.pid}`)
          yield* Effect.scoped(announce(folder, { name: "other", nats: "nats://127.0.0.1:2", keys: null }))
          expect(running(folder)).toHaveLength(1)
        }),
      )
      expect(existsSync(folder)).toBe(false)
    }),
  ),
)

it.effect("does not believe files of processes that are gone, nor broken ones, and removes them", () =>
  inFolder((folder) =>
    Effect.sync(() => {
      mkdirSync(folder)
      const { pid } = spawnSync("true")
      const entry = { name: "a", nats: "nats://127.0.0.1:1", keys: null, started: 1, processStart: "" }
      writeFileSync(join(folder, "gone.json"), JSON.stringify({ ...entry, pid }))
      writeFileSync(join(folder, "reused.json"), JSON.stringify({ ...entry, pid: process.pid, processStart: "1" }))
      writeFileSync(join(folder, "broken.json"), "{")
      expect(running(folder)).toEqual([])
      expect(readdirSync(folder)).toEqual([])
    }),
  ),
)

it("lies in the user's runtime folder", () => {
  expect(folderOf({ XDG_RUNTIME_DIR: "/run/user/7" })).toBe("/run/user/7/chorus")
  expect(folderOf({})).toMatch(/chorus-\w+$/)
})

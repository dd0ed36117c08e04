// The playground's files as they lie there: their types (JSDoc's) are sound, every one of them is served, and nothing in them
// names another host.
import { spawnSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, test } from "vitest"
import { FILES } from "../../../src/gateway/playground.ts"

const ROOT = join(import.meta.dirname, "../../..")
const FOLDER = join(ROOT, "src/gateway/playground")
const files = readdirSync(FOLDER).filter((file) => file !== "tsconfig.json")

test("the page's types are sound", { timeout: 60_000 }, () => {
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc")
  const { status, stdout } = spawnSync(process.execPath, [tsc, "--noEmit", "-p", FOLDER], { encoding: "utf8" })
  expect(stdout).toBe("")
  expect(status).toBe(0)
})

test("every file is served", () => {
  expect([...FILES].sort()).toEqual([...files].sort())
})

test.each(files)("%s names no other host", (file) => {
  const hosts = readFileSync(join(FOLDER, file), "utf8").match(/https?:\/\/[^\s"')]+/g) ?? []
  expect(hosts.filter((url) => url !== "http://www.w3.org/2000/svg")).toEqual([])
})

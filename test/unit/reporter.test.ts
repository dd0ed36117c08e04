// How a run of the tests closes: by a real run of vitest with test/reporter.ts, on tests that are made for it.
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, onTestFinished, test } from "vitest"

const ROOT = join(import.meta.dirname, "../..")

test("the slowest files are named, and the totals stand alone", () => {
  const folder = mkdtempSync(join(tmpdir(), "chorus-test-reporter-"))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"))
  writeFileSync(
    join(folder, "some.test.ts"),
    `import { expect, test } from "vitest"
    test("fails", () => expect.fail("never"))
    test("passes", () => {})
    test.skip("is skipped", () => {})`,
  )
  writeFileSync(join(folder, "vitest.config.js"), "export default {}")
  const reporter = join(ROOT, "test/reporter.ts")
  const { status, stdout } = spawnSync(
    process.execPath,
    [join(ROOT, "node_modules/vitest/vitest.mjs"), "run", "--root", folder, `--reporter=${reporter}`],
    { cwd: folder, encoding: "utf8" },
  )
  expect(stdout.trimEnd().split("\n").slice(-2)).toEqual([
    expect.stringMatching(/^ +\d+\.\d s {2}some\.test\.ts$/),
    "1 passed, 1 failed, 1 skipped",
  ])
  expect(status).toBe(1)
})

// npm run test:flakes -- FILE ... [-n TIMES]: runs test files again and again, each time in processes of its own, and says how
// often each failed and on what. Exits with 1 when anything did.
import { spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, relative } from "node:path"
import { parseArgs } from "node:util"

const ROOT = join(import.meta.dirname, "..")
const TIMES = 20

interface Results {
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly message: string
    readonly assertionResults: ReadonlyArray<{
      readonly fullName: string
      readonly status: string
      readonly failureMessages: ReadonlyArray<string>
    }>
  }>
}

const { values, positionals } = parseArgs({
  options: { times: { type: "string", short: "n", default: `${TIMES}` } },
  allowPositionals: true,
})
const times = Number(values.times)
if (positionals.length === 0 || !(Number.isInteger(times) && times > 0)) {
  process.stderr.write("usage: npm run test:flakes -- FILE ... [-n TIMES]\n")
  process.exit(2)
}

const folder = mkdtempSync(join(tmpdir(), "chorus-flakes-"))
const output = join(folder, "results.json")
const failures = new Map<string, number>() // of each test
try {
  for (let run = 1; run <= times; run++) {
    const vitest = join(ROOT, "node_modules/vitest/vitest.mjs")
    const args = [vitest, "run", "--reporter=json", `--outputFile=${output}`, ...positionals]
    const { status, stderr } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: "utf8" })
    const failed = status === 0 ? [] : failuresIn(output, stderr)
    for (const { test, why } of failed) {
      failures.set(test, (failures.get(test) ?? 0) + 1)
      console.log(`run ${run}: ${test}\n${why.replaceAll(/^/gm, "    ")}`)
    }
    console.log(`run ${run} of ${times}: ${failed.length === 0 ? "passed" : `${failed.length} failed`}`)
    rmSync(output, { force: true })
  }
} finally {
  rmSync(folder, { recursive: true })
}
for (const [test, count] of failures) console.log(`${count} of ${times}: ${test}`)
process.exitCode = failures.size === 0 ? 0 : 1

function failuresIn(file: string, stderr: string): ReadonlyArray<{ readonly test: string; readonly why: string }> {
  let results: Results
  try {
    results = JSON.parse(readFileSync(file, "utf8"))
  } catch {
    return [{ test: "vitest itself", why: stderr }]
  }
  const failed = results.testResults.flatMap(({ name, message, assertionResults }) => {
    const path = relative(ROOT, name)
    const tests = assertionResults
      .filter(({ status }) => status === "failed")
      .map(({ fullName, failureMessages }) => ({ test: `${path}: ${fullName}`, why: failureMessages.join("\n") }))
    return tests.length === 0 && message !== "" ? [{ test: path, why: message }] : tests
  })
  return failed.length === 0 ? [{ test: "an error outside of the tests", why: stderr }] : failed
}

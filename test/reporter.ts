// The last lines of a test run: the files that took longest, and `N passed, N failed, N skipped`. A file that does not load,
// or an error outside of tests, counts as a failure, so that the line never reads better than the exit code.
import type { Reporter, SerializedError, TestModule } from "vitest/node"

/** As many files as are worth a look where the run is too slow. */
const SLOWEST = 10

export default class Totals implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, errors: ReadonlyArray<SerializedError>) {
    const totals = { passed: 0, failed: errors.length, skipped: 0, pending: 0 }
    for (const module of modules) {
      let failedTests = 0
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        totals[state] += 1
        if (state === "failed") failedTests += 1
      }
      if (module.state() === "failed" && failedTests === 0) totals.failed += 1
    }
    const { passed, failed, skipped, pending } = totals
    const lines = [...slowest(modules), `${passed} passed, ${failed} failed, ${skipped + pending} skipped`]
    process.on("exit", () => process.stdout.write(`${lines.join("\n")}\n`))
  }
}

const slowest = (modules: ReadonlyArray<TestModule>): ReadonlyArray<string> =>
  modules
    .map((module) => ({ file: module.relativeModuleId, seconds: secondsOf(module) }))
    .sort((one, other) => other.seconds - one.seconds)
    .slice(0, SLOWEST)
    .map(({ file, seconds }) => `${seconds.toFixed(1).padStart(7)} s  ${file}`)

/** From the file's import to the end of its last hook. */
const secondsOf = (module: TestModule): number => {
  const { collectDuration, duration } = module.diagnostic()
  return (collectDuration + duration) / 1_000
}

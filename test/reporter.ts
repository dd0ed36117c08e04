// The last lines of a test run: which tests passed only when they were tried again, and `N passed, N failed, N skipped`. A
// file that does not load, or an error outside of tests, counts as a failure, so that the line never reads better than the
// exit code.
import type { Reporter, SerializedError, TestCase, TestModule } from "vitest/node"

export default class Totals implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, errors: ReadonlyArray<SerializedError>) {
    const totals = { passed: 0, failed: errors.length, skipped: 0, pending: 0 }
    const retried: Array<string> = []
    for (const module of modules) {
      let failedTests = 0
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        totals[state] += 1
        if (state === "failed") failedTests += 1
        if ((test.diagnostic()?.retryCount ?? 0) > 0) retried.push(lineOf(module, test))
      }
      if (module.state() === "failed" && failedTests === 0) totals.failed += 1
    }
    const { passed, failed, skipped, pending } = totals
    const lines = [
      ...retried,
      `${retried.length} retried`,
      `${passed} passed, ${failed} failed, ${skipped + pending} skipped`,
    ]
    process.on("exit", () => process.stdout.write(`${lines.join("\n")}\n`))
  }
}

/** The first failure says why; a test that fails again has its own words above. */
const lineOf = (module: TestModule, test: TestCase): string => {
  const [first] = test.result().errors ?? []
  const why = first === undefined ? "" : `: ${first.message.split("\n")[0]}`
  return `retried: ${module.relativeModuleId} > ${test.fullName}${why}`.replaceAll(/\s+/g, " ")
}

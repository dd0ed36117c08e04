// The last line of a test run: `N passed, N failed, N skipped`. A file that does not load, or an error outside of tests,
// counts as a failure, so that the line never reads better than the exit code.
import type { Reporter, SerializedError, TestModule } from "vitest/node"

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
    const skipped = totals.skipped + totals.pending
    process.on("exit", () =>
      process.stdout.write(`${totals.passed} passed, ${totals.failed} failed, ${skipped} skipped\n`),
    )
  }
}

// Five projects, in the order of what they need: unit tests need nothing, golden ones the native module, integration and
// chaos tests start real servers and processes, browser tests need Chromium as well. Most of the time of those three is spent
// on waiting (for silences, leases, drains), so files run two at a time: whatever they listen on or write to is their own.
import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

const project = (name: string, order: number, testTimeout: number) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    pool: "forks" as const, // the native module keeps threads and maps files: a process each, gone with its file
    testTimeout,
    hookTimeout: testTimeout,
    expect: { poll: { timeout: 60_000 } }, // what a quiet machine does in a second may take long on a busy one
    sequence: { groupOrder: order },
  },
})

/** A chaos run is the longest file by far: begun last it would end alone. */
class ChaosFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const sorted = await super.sort(files)
    const isChaos = ({ project }: TestSpecification) => project.name === "chaos"
    return [...sorted.filter(isChaos), ...sorted.filter((file) => !isChaos(file))]
  }
}

export default defineConfig({
  test: {
    reporters: ["default", "./test/reporter.ts"],
    maxWorkers: 2, // real ranks compute beside the tests
    sequence: { sequencer: ChaosFirst },
    projects: [
      project("unit", 0, 60_000),
      project("golden", 1, 300_000),
      project("integration", 2, 300_000),
      project("chaos", 2, 300_000),
      project("browser", 2, 60_000),
    ],
  },
})

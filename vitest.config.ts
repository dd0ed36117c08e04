// Five projects, in the order of what they need: unit tests need nothing, golden ones the native module, integration and
// chaos tests start real servers and processes and so run one file at a time; browser tests need Chromium as well.
import { defineConfig } from "vitest/config"

const project = (
  name: string,
  settings: { readonly testTimeout: number; readonly alone?: boolean; readonly order: number },
) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    pool: "forks" as const, // the native module keeps threads and maps files: a process each, gone with its file
    testTimeout: settings.testTimeout,
    hookTimeout: settings.testTimeout,
    expect: { poll: { timeout: 60_000 } }, // what a quiet machine does in a second may take long on a busy one
    fileParallelism: !settings.alone,
    sequence: { groupOrder: settings.order },
  },
})

export default defineConfig({
  test: {
    reporters: ["default", "./test/reporter.ts"],
    maxWorkers: 2, // real ranks compute beside the tests
    projects: [
      project("unit", { testTimeout: 60_000, order: 0 }),
      project("golden", { testTimeout: 300_000, order: 1 }),
      project("integration", { testTimeout: 300_000, order: 2 }),
      project("chaos", { testTimeout: 300_000, alone: true, order: 3 }),
      project("browser", { testTimeout: 60_000, alone: true, order: 4 }),
    ],
  },
})

// What a flag's value may begin with: anything.
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, test } from "vitest"
import { withValuesJoined } from "../../../src/cli/arguments.ts"
import "../../../src/cli/drain.ts"
import "../../../src/cli/generate.ts"

const CLI = join(import.meta.dirname, "../../../src/cli")

describe("a flag that takes a value", () => {
  test.each([
    [
      ["generate", "--prompt", "--x"],
      ["generate", "--prompt=--x"],
    ],
    [
      ["generate", "-p", "-x", "--json"],
      ["generate", "-p=-x", "--json"],
    ],
    [
      ["--stop", "--", "--stop", "--json", "--json"],
      ["--stop=--", "--stop=--json", "--json"],
    ],
    [["--prompt", "--a=b"], ["--prompt=--a=b"]],
    [["--prompt", "-"], ["--prompt=-"]],
    [["--api-keys", "-keys.txt"], ["--api-keys=-keys.txt"]],
  ])("has what comes behind it: %j", (given, joined) => {
    expect(withValuesJoined(given)).toEqual(joined)
  })
})

test.each([
  [["generate", "--json", "--stats", "--no-speculation", "--prompt", "x"]],
  [["generate", "--chat", "--prompt"]],
  [["--prompt=a", "--json"]],
  [["drain", "one", "--undo", "--nats", "nats://127.0.0.1"]],
  [["--help", "--json"]],
  [["rm", "--", "--prompt", "--x"]],
])("the rest stays as it is: %j", (given) => {
  expect(withValuesJoined(given)).toEqual(given)
})

test("every flag without a value is known as one", () => {
  const files = readdirSync(CLI).filter((file) => readFileSync(join(CLI, file), "utf8").includes("Flag.Boolean("))
  expect(files).toEqual(["flags.ts"]) // in `toggle`
  expect(readFileSync(join(CLI, "flags.ts"), "utf8").split("Flag.Boolean(")).toHaveLength(2)
})

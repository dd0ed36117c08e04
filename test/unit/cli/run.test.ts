// Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
import { expect, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { CliError } from "effect/cli"
import { CommandFailed, UsageError } from "../../../src/cli/errors.ts"
import { exitCodeOf } from "../../../src/cli/run.ts"

it("follow from how a command ended", () => {
  const unknown = new CliError.UnrecognizedOption({ option: "--x", suggestions: [] })
  expect(exitCodeOf(Exit.void)).toBe(0)
  expect(exitCodeOf(Exit.fail(new CommandFailed({ reason: "no" })))).toBe(1)
  expect(exitCodeOf(Exit.die(new Error("a bug")))).toBe(1)
  expect(exitCodeOf(Exit.fail(new UsageError({ reason: "no" })))).toBe(2)
  expect(exitCodeOf(Exit.fail(new CliError.ShowHelp({ commandPath: ["chorus"], errors: [unknown] })))).toBe(2)
  expect(exitCodeOf(Exit.fail(new CliError.ShowHelp({ commandPath: ["chorus"], errors: [] })))).toBe(0)
  expect(exitCodeOf(Exit.failCause(Cause.interrupt()))).toBe(130)
})

it.effect("a failure beside an interruption is a failure", () =>
  Effect.gen(function* () {
    const cause = Cause.combine(Cause.interrupt(), Cause.fail(new CommandFailed({ reason: "no" })))
    expect(exitCodeOf(Exit.failCause(cause))).toBe(1)
  }),
)

// Runs a command to its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Whatever ends it, scopes close first,
// so processes and folders that the command made are gone before this one is.
import { Cause, Effect, Exit } from "effect"
import { CliError } from "effect/cli"
import { UsageError } from "./errors.ts"
import { oneLine } from "./presenter.ts"

const waiting = new Set<() => void>()

/** Ends when this process gets a SIGTERM. While a fibre waits for it, SIGTERM interrupts nothing by itself. */
export const terminated: Effect.Effect<void> = Effect.callback((resume) => {
  const done = () => resume(Effect.void)
  waiting.add(done)
  return Effect.sync(() => waiting.delete(done))
})

export const run = <A, E>(program: Effect.Effect<A, E>): void => {
  const alive = setInterval(() => {}, 2 ** 30) // a fibre that waits for a child process alone keeps nothing alive
  const interrupt = () => fiber.interruptUnsafe()
  process.on("SIGINT", interrupt)
  process.on("SIGHUP", interrupt)
  process.on("SIGTERM", () => {
    if (waiting.size === 0) interrupt()
    for (const done of waiting) done()
  })
  process.stdout.on("error", interrupt) // the reader is gone, as behind `| head`
  process.stderr.on("error", () => {})
  const fiber = Effect.runFork(program.pipe(Effect.tapCause((cause) => Effect.sync(() => report(cause)))))
  fiber.addObserver((exit) => {
    clearInterval(alive)
    process.exit(exitCodeOf(exit))
  })
}

export const exitCodeOf = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit)) return 0
  if (Cause.hasInterruptsOnly(exit.cause)) return 130
  const error = Cause.squash(exit.cause)
  if (CliError.isCliError(error)) return error._tag === "ShowHelp" && error.errors.length === 0 ? 0 : 2
  return error instanceof UsageError ? 2 : 1
}

const report = (cause: Cause.Cause<unknown>): void => {
  if (Cause.hasInterruptsOnly(cause)) return
  const error = Cause.squash(cause)
  if (CliError.isCliError(error)) return // the presenter has
  process.stderr.write(`chorus: ${Cause.hasDies(cause) ? defect(error) : lineOf(error)}\n`)
}

const lineOf = (error: unknown): string => oneLine(error instanceof Error ? error.message : String(error))

/** Not foreseen, so the trace is worth having. */
const defect = (error: unknown): string =>
  `internal error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`

// What every actor's process has in common: how it ends. It never outlives the process that started it, however that one
// ended: SIGKILL leaves no time to say goodbye.
import { fstatSync } from "node:fs"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime" // the whole package takes half a second to load
import { Cause, Effect, Exit } from "effect"
import { pulse } from "./pulse.ts"

/** Longer than a drain takes. */
const GRACE_MILLIS = 10_000

/** Runs an actor until a signal or its parent's end interrupts it: exit code 0 then, 1 when it fails, which stderr tells. */
export const runActor = <A, E extends Error>(actor: Effect.Effect<A, E>): void => {
  endWithParent()
  pulse()
  actor.pipe(
    Effect.tapError((error) => Effect.sync(() => process.stderr.write(`${error.message}\n`))),
    Effect.tapDefect((defect) => Effect.sync(() => console.error(defect))), // a bug of ours: with its trace
    NodeRuntime.runMain({
      disableErrorReporting: true,
      teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1),
    }),
  )
}

/** Drains and ends the process when its parent is gone, as the end of the IPC channel, or of a piped stdin, tells. */
const endWithParent = (): void => {
  const end = () => {
    process.kill(process.pid, "SIGTERM")
    setTimeout(() => process.exit(1), GRACE_MILLIS).unref()
  }
  if (process.connected) {
    process.once("disconnect", end)
    process.channel?.unref()
  } else if (isPiped()) {
    process.stdin.once("end", end).once("error", end).resume()
  }
}

/** Whether stdin is a pipe: not a terminal, and not /dev/null, which ends at once. */
const isPiped = (): boolean => {
  try {
    const stdin = fstatSync(0)
    return stdin.isFIFO() || stdin.isSocket()
  } catch {
    return false // closed
  }
}

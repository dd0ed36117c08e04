// The NATS server that a command means: the one it names, or that of `chorus up` on this machine.
import { Effect, Option } from "effect"
import { Flag } from "effect/cli"
import { Nats } from "../fabric/nats.ts"
import { CommandFailed, UsageError } from "./errors.ts"
import * as flags from "./flags.ts"
import { folderOf, running } from "./runtimeState.ts"

export const serverFlag = flags.nats.pipe(
  Flag.withDescription("the NATS server (default: that of `chorus up` on this machine)"),
  Flag.optional,
)

/** Runs `use` with a connection to it. */
export const onServer = <A, E, R>(given: Option.Option<string>, use: Effect.Effect<A, E, R>) =>
  Effect.flatMap(urlOf(given), (url) => Effect.provide(Effect.scoped(use), Nats.layer({ url, name: "chorus" })))

const urlOf = (given: Option.Option<string>): Effect.Effect<string, CommandFailed | UsageError> =>
  Effect.suspend((): Effect.Effect<string, CommandFailed | UsageError> => {
    if (Option.isSome(given)) return Effect.succeed(given.value)
    const [only, ...others] = new Set(running(folderOf(process.env)).map(({ nats }) => nats))
    if (others.length > 0) {
      return Effect.fail(
        new UsageError({ reason: `here run ${[only, ...others].join(" and ")}: say which with --nats` }),
      )
    }
    if (only !== undefined) return Effect.succeed(only)
    const reason = "nothing runs on this machine. Start it with `chorus up`, or name a server with --nats."
    return Effect.fail(new CommandFailed({ reason }))
  })

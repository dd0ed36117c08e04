// chorus drain: takes the ranks off a host, and keeps them off until it is undone. Sessions end there, or go on elsewhere.
import { Console, Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { drainHost, undrainHost } from "../host/drain.ts"
import { CommandFailed } from "./errors.ts"
import * as flags from "./flags.ts"
import { progressOn } from "./progress.ts"
import { onServer, serverFlags } from "./server.ts"

/** Most sessions end in this time by themselves. */
const LIMIT_MILLIS = 60_000

export const drain = Command.make(
  "drain",
  {
    host: Argument.String("host").pipe(Argument.withDescription("its name, as `chorus ps` shows it")),
    limit: flags
      .duration("limit")
      .pipe(
        Flag.withDescription("how long sessions may go on there before they do so elsewhere (default: 60s)"),
        Flag.optional,
      ),
    undo: flags.toggle("undo").pipe(Flag.withDescription("let it take ranks again"), Flag.withDefault(false)),
    ...serverFlags,
  },
  Effect.fnUntraced(function* ({ host, limit, undo, ...server }) {
    if (undo) {
      if (!(yield* onServer(server, undrainHost(host)))) {
        return yield* new CommandFailed({ reason: `${host} does not drain. \`chorus ps\` shows which hosts do.` })
      }
      return yield* Console.log(`${host} takes ranks again`)
    }
    const progress = progressOn(process.stderr)
    const limitMillis = Option.getOrElse(limit, () => LIMIT_MILLIS)
    yield* onServer(server, drainHost({ host, limitMillis, tell: progress.report }))
    progress.clear()
    return yield* Console.log(
      `${host} is drained: it has no ranks, and gets none until \`chorus drain --undo ${host}\``,
    )
  }),
).pipe(
  Command.withDescription("Take the ranks off a host: sessions end there, or go on elsewhere with the same tokens"),
  Command.withExamples([
    { command: "chorus drain big", description: "Before a machine goes; ends when it has no ranks" },
    { command: "chorus drain big --limit 5m", description: "Long answers may end where they are" },
    { command: "chorus drain --undo big", description: "It is back" },
  ]),
)

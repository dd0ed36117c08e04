// chorus host: joins this machine to a NATS server: supervisors place ranks on it. SIGTERM
// drains it, ends its ranks and exits with 0.
import { Console, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { accessOf } from "../bus/access.ts"
import { nameOfMachine, host as serveHost } from "../host/host.ts"
import { onNats } from "../store/jetStream.ts"
import * as flags from "./flags.ts"
import { terminated } from "./run.ts"
import { keysFor } from "./server.ts"

/** Sessions that are running have so long to end. */
const DRAIN_MILLIS = 20_000

const options = {
  nats: flags.nats.pipe(Flag.withDescription("the NATS server to join")),
  keys: flags.keys,
  name: flags.hostName.pipe(Flag.withDescription("of this host (default: the machine's name)"), Flag.optional),
  ...flags.limits,
}

type Options = flags.Values<typeof options>

export const host = Command.make("host", options, (given) =>
  Effect.raceFirst(terminated, Effect.scoped(serve(given))),
).pipe(
  Command.withDescription("Join this machine: ranks are placed on it, by its free memory and cores, until Ctrl-C"),
  Command.withExamples([
    { command: "chorus host --nats nats://10.0.0.5:4222", description: "All of this machine" },
    {
      command: "chorus host --nats nats://10.0.0.5:4222 --name big --cores 16 --memory 64G",
      description: "A part of it",
    },
  ]),
)

const serve = Effect.fnUntraced(function* ({ nats: url, ...given }: Options) {
  const keys = keysFor({ nats: Option.some(url), keys: given.keys })
  const access = accessOf("host", keys, process.env)
  const name = Option.getOrElse(given.name, nameOfMachine)
  const [cores, memory] = [Option.getOrNull(given.cores), Option.getOrNull(given.memory)]
  const serving = Effect.gen(function* () {
    yield* serveHost({ url, access, name, cores, memory, drainMillis: DRAIN_MILLIS })
    yield* Console.log(`host ${name} has joined ${url}`)
    return yield* Effect.never
  })
  return yield* Effect.provide(Effect.scoped(serving), onNats({ url, name: `host.${name}`, role: "host", keys }))
})

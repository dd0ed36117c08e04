// The NATS server that a command means: the one it names, or that of `chorus up` on this machine.
import { Effect, Option } from "effect"
import { Flag } from "effect/cli"
import { onNats } from "../store/jetStream.ts"
import { CommandFailed, UsageError } from "./errors.ts"
import * as flags from "./flags.ts"
import { folderOf, keysAt, running } from "./runtimeState.ts"

export const serverFlags = {
  nats: flags.nats.pipe(
    Flag.withDescription("the NATS server (default: that of `chorus up` on this machine)"),
    Flag.optional,
  ),
  keys: flags.keys,
}

type Given = Pick<flags.Values<typeof serverFlags>, "nats" | "keys">

export interface Server {
  readonly url: string
  readonly keys: string | null // folder; null: what the environment says
}

/** The keys that a command shows to the server that it names: those it was given, or those of a server that runs here. */
export const keysFor = ({ nats, keys }: Given): string | null =>
  Option.getOrElse(keys, () => (Option.isSome(nats) ? keysAt(folderOf(process.env), nats.value) : null))

/** Runs `use` with a connection to it, as an operator. */
export const onServer = <A, E, R>(given: Given, use: Effect.Effect<A, E, R>) =>
  Effect.flatMap(serverOf(given), (server) => at(server, use))

export const at = <A, E, R>({ url, keys }: Server, use: Effect.Effect<A, E, R>) =>
  Effect.provide(Effect.scoped(use), onNats({ url, name: "chorus", role: "operator", keys }))

/** The servers of what `chorus up` runs here, each once. */
export const serversHere = (): ReadonlyArray<Server> => [
  ...new Map(running(folderOf(process.env)).map(({ nats, keys }) => [nats, { url: nats, keys }])).values(),
]

const serverOf = (given: Given): Effect.Effect<Server, CommandFailed | UsageError> =>
  Effect.suspend((): Effect.Effect<Server, CommandFailed | UsageError> => {
    const { nats, keys } = given
    if (Option.isSome(nats)) return Effect.succeed({ url: nats.value, keys: keysFor(given) })
    const [only, ...others] = serversHere()
    if (others.length > 0) {
      const urls = serversHere().map(({ url }) => url)
      return Effect.fail(new UsageError({ reason: `here run ${urls.join(" and ")}: say which with --nats` }))
    }
    if (only !== undefined) return Effect.succeed({ ...only, keys: Option.getOrElse(keys, () => only.keys) })
    const reason = "nothing runs on this machine. Start it with `chorus up`, or name a server with --nats."
    return Effect.fail(new CommandFailed({ reason }))
  })

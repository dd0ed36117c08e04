// chorus gateway: HTTP in front of what is served on a NATS server, alone or beside others. SIGTERM drains it and exits with 0.
import { Console, Effect, Layer, Option, Result } from "effect"
import { Command, Flag } from "effect/cli"
import { accessOf, natsEnvironment } from "../bus/access.ts"
import { Nats } from "../bus/nats.ts"
import { telemetry } from "../bus/telemetry.ts"
import { CommandFailed } from "./errors.ts"
import * as flags from "./flags.ts"
import { terminated } from "./run.ts"
import { keysFor } from "./server.ts"

const options = {
  nats: flags.nats.pipe(Flag.withDescription("the NATS server whose deployments it serves")),
  keys: flags.keys,
  ...flags.http,
}

type Options = flags.Values<typeof options>

export const gateway = Command.make("gateway", options, (given) =>
  Effect.raceFirst(terminated, Effect.scoped(serve(given))),
).pipe(
  Command.withDescription("Serve HTTP until Ctrl-C: OpenAI's API, a playground, health and metrics"),
  Command.withExamples([
    { command: "chorus gateway --nats nats://10.0.0.5:4222", description: "At http://127.0.0.1:8080" },
    {
      command: "chorus gateway --nats nats://10.0.0.5:4222 --host 0.0.0.0 --api-keys keys.txt",
      description: "For others, who need a key",
    },
  ]),
)

const serve = Effect.fnUntraced(function* ({ nats: url, ...given }: Options) {
  const keys = keysFor({ nats: Option.some(url), keys: given.keys })
  // Loaded here, for the other commands need no HTTP.
  const { readEnvironment } = yield* Effect.promise(() => import("../gateway/environment.ts"))
  const { gateway } = yield* Effect.promise(() => import("../gateway/server.ts"))
  const read = readEnvironment({
    ...process.env,
    ...flags.httpEnvironment(given),
    ...natsEnvironment(url, accessOf("gateway", keys, process.env)),
  })
  if (Result.isFailure(read)) return yield* new CommandFailed({ reason: read.failure.message })
  const serving = Effect.gen(function* () {
    const http = yield* gateway(read.success)
    yield* Console.log(`gateway serves ${http} for ${url}`)
    return yield* Effect.never
  })
  return yield* Effect.provide(
    serving,
    Layer.merge(Nats.layer({ url, name: "chorus gateway", role: "gateway", keys }), telemetry("chorus-gateway")),
  )
})

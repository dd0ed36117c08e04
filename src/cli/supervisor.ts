// chorus supervisor: serves the deployments of a NATS server. Several share the sessions; one of them at a time places ranks.
// SIGTERM lets its sessions end for a while, hands the others over, and exits with 0.
import { Console, Effect, Layer, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { telemetry } from "../bus/telemetry.ts"
import { onNats } from "../store/jetStream.ts"
import * as flags from "./flags.ts"
import { terminated } from "./run.ts"
import { keysFor } from "./server.ts"

export const supervisor = Command.make(
  "supervisor",
  { nats: flags.nats.pipe(Flag.withDescription("the NATS server to serve at")), keys: flags.keys },
  ({ nats: url, keys }) =>
    Effect.raceFirst(
      terminated,
      Effect.gen(function* () {
        // Loaded here, for the other commands run no sessions.
        const { serveAll } = yield* Effect.promise(() => import("../session/serveAll.ts"))
        yield* serveAll
        yield* Console.log(`supervisor serves at ${url}`)
        return yield* Effect.never
      }).pipe(
        Effect.scoped,
        Effect.provide(
          Layer.merge(
            onNats({
              url,
              name: "chorus.supervisor",
              role: "supervisor",
              keys: keysFor({ nats: Option.some(url), keys }),
            }),
            telemetry("chorus-supervisor"),
          ),
        ),
      ),
    ),
).pipe(
  Command.withDescription(
    "Serve the deployments of a NATS server until Ctrl-C; the models have to be on this machine too",
  ),
  Command.withExamples([
    { command: "chorus supervisor --nats nats://10.0.0.5:4222", description: "Beside others, or alone" },
  ]),
)

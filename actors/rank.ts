// A rank: one device, one shard of a model. The environment says which, its group's subject says what to do. Exits with 0
// after a drain (SIGTERM), with 1 when it cannot load; ends when its parent does.
import * as NodeRuntime from "@effect/platform-node/NodeRuntime" // the whole package takes half a second to load
import { Cause, Effect, Exit, Layer } from "effect"
import { Nats } from "../src/fabric/nats.ts"
import { telemetry } from "../src/fabric/telemetry.ts"
import { readEnvironment } from "../src/rank/environment.ts"
import { endWithParent } from "../src/rank/parent.ts"
import { rank } from "../src/rank/rank.ts"

endWithParent()

const actor = Effect.gen(function* () {
  const { url, ...options } = yield* Effect.fromResult(readEnvironment(process.env))
  const name = `${options.deployment.name}.${options.group.name}.${options.rank}`
  return yield* Layer.effectDiscard(rank(options)).pipe(
    Layer.provide(telemetry("chorus-rank")),
    Layer.provide(Nats.layer({ url, name, echo: false })), // a rank's own broadcasts do not come back to it
    Layer.launch,
  )
})

actor.pipe(
  Effect.tapError((error) => Effect.sync(() => process.stderr.write(`${error.message}\n`))),
  Effect.tapDefect((defect) => Effect.sync(() => console.error(defect))), // a bug of ours: with its trace
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1),
  }),
)

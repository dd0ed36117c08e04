// A supervisor: owns sessions and runs their workflows. Exits with 0 after a drain (SIGTERM), with 1 when a group cannot
// start; ends when its parent does.
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Effect, Exit, Layer } from "effect"
import { Nats } from "../src/fabric/nats.ts"
import { telemetry } from "../src/fabric/telemetry.ts"
import { endWithParent } from "../src/rank/parent.ts"
import { readEnvironment } from "../src/supervisor/environment.ts"
import { supervisor } from "../src/supervisor/supervisor.ts"

endWithParent()

const actor = Effect.gen(function* () {
  const { url, ...options } = yield* Effect.fromResult(readEnvironment(process.env))
  const serving = Effect.andThen(
    supervisor(options),
    Effect.sync(() => process.send?.("ready")), // whoever started us may be waiting
  )
  return yield* Layer.effectDiscard(serving).pipe(
    Layer.provide(telemetry("chorus-supervisor")),
    Layer.provide(Nats.layer({ url, name: `${options.deployment.name}.supervisor` })),
    Layer.launch,
  )
})

actor.pipe(
  Effect.tapError((error) => Effect.sync(() => process.stderr.write(`${error.message}\n`))),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1),
  }),
)

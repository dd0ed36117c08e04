// A supervisor: owns sessions and runs their workflows, of one deployment that its environment names or of all in the
// bucket. Exits with 0 after a drain (SIGTERM), with 1 when it cannot serve; ends when its parent does.
import * as NodeRuntime from "@effect/platform-node/NodeRuntime" // the whole package takes half a second to load
import { Cause, Effect, Exit, Layer } from "effect"
import { Nats } from "../src/fabric/nats.ts"
import { telemetry } from "../src/fabric/telemetry.ts"
import { endWithParent } from "../src/rank/parent.ts"
import { readEnvironment } from "../src/supervisor/environment.ts"
import { serveAll } from "../src/supervisor/serving.ts"
import { supervisor } from "../src/supervisor/supervisor.ts"

endWithParent()

const actor = Effect.gen(function* () {
  const { url, fixed } = yield* Effect.fromResult(readEnvironment(process.env))
  const serving = Effect.gen(function* () {
    if (fixed === null) yield* serveAll
    else yield* supervisor(fixed)
    process.send?.("ready") // whoever started us may be waiting
  })
  return yield* Layer.effectDiscard(serving).pipe(
    Layer.provide(telemetry("chorus-supervisor")),
    Layer.provide(Nats.layer({ url, name: `${fixed?.deployment.name ?? "chorus"}.supervisor` })),
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

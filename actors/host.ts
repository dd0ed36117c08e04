// A host: one per machine. Starts and stops the ranks that it is told to, and says what the machine has. Exits with 0 after
// a drain (SIGTERM), when its ranks have ended; ends when its parent does.
import * as NodeRuntime from "@effect/platform-node/NodeRuntime" // the whole package takes half a second to load
import { Cause, Effect, Exit, Layer } from "effect"
import { Nats } from "../src/fabric/nats.ts"
import { endWithParent } from "../src/rank/parent.ts"
import { readHostEnvironment } from "../src/supervisor/environment.ts"
import { host } from "../src/supervisor/host.ts"

endWithParent()

const actor = Effect.gen(function* () {
  const options = yield* Effect.fromResult(readHostEnvironment(process.env))
  const serving = Effect.andThen(
    host(options),
    Effect.sync(() => process.send?.("ready")), // whoever started us may be waiting
  )
  return yield* Layer.effectDiscard(serving).pipe(
    Layer.provide(Nats.layer({ url: options.url, name: `host.${options.name}` })),
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

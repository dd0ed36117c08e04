// A host: one per machine. Starts and stops the ranks that it is told to, and says what the machine has. Exits with 0 after
// a drain (SIGTERM), when its ranks have ended; ends when its parent does.
import { Effect, Layer } from "effect"
import { runActor } from "../src/host/actor.ts"
import { host } from "../src/host/host.ts"
import { tellParent } from "../src/host/pulse.ts"
import { readHostEnvironment } from "../src/session/environment.ts"
import { onNats } from "../src/store/jetStream.ts"

const actor = Effect.gen(function* () {
  const options = yield* Effect.fromResult(readHostEnvironment(process.env))
  const serving = Effect.andThen(
    host(options),
    Effect.sync(() => tellParent({ _tag: "Serving" })),
  )
  return yield* Layer.effectDiscard(serving).pipe(
    Layer.provide(onNats({ url: options.url, name: `host.${options.name}`, role: "host" })),
    Layer.launch,
  )
})

runActor(actor)

// A gateway: HTTP in front of what is served on a NATS server. Exits with 0 after a drain (SIGTERM), with 1 when it cannot
// listen; ends when its parent does.
import { Effect, Layer } from "effect"
import { Nats } from "../src/bus/nats.ts"
import { telemetry } from "../src/bus/telemetry.ts"
import { readEnvironment } from "../src/gateway/environment.ts"
import { gateway } from "../src/gateway/server.ts"
import { runActor } from "../src/host/actor.ts"
import { tellParent } from "../src/host/pulse.ts"

const actor = Effect.gen(function* () {
  const options = yield* Effect.fromResult(readEnvironment(process.env))
  const serving = Effect.tap(gateway(options), (url) => Effect.sync(() => tellParent({ _tag: "Serving", url })))
  return yield* Layer.effectDiscard(serving).pipe(
    Layer.provide(telemetry("chorus-gateway")),
    Layer.provide(Nats.layer({ url: options.url, name: "chorus gateway", role: "gateway" })),
    Layer.launch,
  )
})

runActor(actor)

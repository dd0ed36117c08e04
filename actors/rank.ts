// A rank: one device, one shard of a model. The environment says which, its group's subject says what to do. Exits with 0
// after a drain (SIGTERM), with 1 when it cannot load; ends when its parent does.
import { Effect, Layer } from "effect"
import { Nats } from "../src/bus/nats.ts"
import { telemetry } from "../src/bus/telemetry.ts"
import { runActor } from "../src/host/actor.ts"
import { tellParent } from "../src/host/pulse.ts"
import { readEnvironment } from "../src/rank/environment.ts"
import { rank } from "../src/rank/rank.ts"

const actor = Effect.gen(function* () {
  const { url, ...options } = yield* Effect.fromResult(readEnvironment(process.env))
  const name = `${options.deployment.name}.${options.group.name}.${options.member}`
  const serving = Effect.andThen(
    rank(options),
    Effect.sync(() => tellParent({ _tag: "Serving" })),
  )
  return yield* Layer.effectDiscard(serving).pipe(
    Layer.provide(telemetry("chorus-rank")),
    Layer.provide(Nats.layer({ url, name, role: "rank", echo: false })), // a rank's own broadcasts do not come back to it
    Layer.launch,
  )
})

runActor(actor)

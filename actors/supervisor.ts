// A supervisor: owns sessions and runs their workflows, of one deployment that its environment names or of all in the
// bucket. Exits with 0 after a drain (SIGTERM), with 1 when it cannot serve; ends when its parent does.
import { Effect, Layer } from "effect"
import { telemetry } from "../src/bus/telemetry.ts"
import { runActor } from "../src/host/actor.ts"
import { tellParent } from "../src/host/pulse.ts"
import { readEnvironment } from "../src/session/environment.ts"
import { serveAll } from "../src/session/serveAll.ts"
import { supervisor } from "../src/session/supervisor.ts"
import { onNats } from "../src/store/jetStream.ts"

const actor = Effect.gen(function* () {
  const { url, fixed } = yield* Effect.fromResult(readEnvironment(process.env))
  const serving = Effect.gen(function* () {
    if (fixed === null) yield* serveAll
    else yield* supervisor(fixed)
    tellParent({ _tag: "Serving" })
  })
  return yield* Layer.effectDiscard(serving).pipe(
    Layer.provide(telemetry("chorus-supervisor")),
    Layer.provide(onNats({ url, name: `${fixed?.deployment.name ?? "chorus"}.supervisor`, role: "supervisor" })),
    Layer.launch,
  )
})

runActor(actor)

// A process with an engine and two workflows, for durable.test.ts: says on stdout what it does, one line each.
//   node durableWorker.ts URL [WORKFLOW ID]   begins that execution

import { randomUUID } from "node:crypto"
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Schema } from "effect"
import { Activity, DurableClock, DurableDeferred, Workflow } from "effect/workflow"
import { layer } from "../../src/durable/engine.ts"
import { Presence } from "../../src/durable/presence.ts"
import { onNats } from "../../src/store/jetStream.ts"

const say = (line: string) => Effect.sync(() => void process.stdout.write(`${line}\n`))

const step = (name: string) =>
  Activity.make({ name, success: Schema.String, execute: Effect.as(say(`does ${name}`), randomUUID()) })

export const Go = DurableDeferred.make("go", { success: Schema.Int })

/** Two steps with a wait between them. */
export const Steps = Workflow.make("Steps", {
  payload: { id: Schema.String, at: Schema.Date },
  success: Schema.Struct({ first: Schema.String, went: Schema.Int, at: Schema.Date }),
  idempotencyKey: ({ id }) => id,
})

const steps = Steps.toLayer(
  Effect.fnUntraced(function* ({ at }) {
    const first = yield* step("first").pipe(Steps.withCompensation(() => say("undoes first")))
    const went = yield* DurableDeferred.await(Go)
    yield* step("second")
    return { first, went, at }
  }),
)

/** A child, and a time that passes. */
export const Parent = Workflow.make("Parent", {
  payload: { id: Schema.String },
  success: Schema.Int,
  idempotencyKey: ({ id }) => id,
})

const parent = Parent.toLayer(
  Effect.fnUntraced(function* ({ id }) {
    yield* step("before")
    yield* DurableClock.sleep({ name: "a while", duration: "1 second", inMemoryThreshold: 0 })
    const { went } = yield* Steps.execute({ id: `child of ${id}`, at: new Date(0) })
    yield* step("after")
    return went
  }),
)

export const engine = (url: string) =>
  layer({ namespace: "test" }).pipe(Layer.provide(Presence.layer), Layer.provide(onNats({ url, name: "durable" })))

if (import.meta.main) {
  const [url = "", workflow, id = ""] = process.argv.slice(2)
  const begin = Effect.gen(function* () {
    if (workflow === "Steps") yield* Steps.execute({ id, at: new Date(7) }, { discard: true })
    if (workflow === "Parent") yield* Parent.execute({ id }, { discard: true })
    yield* say("ready")
  })
  Layer.effectDiscard(begin).pipe(
    Layer.provide(Layer.mergeAll(steps, parent)),
    Layer.provide(engine(url)),
    Layer.launch,
    NodeRuntime.runMain,
  )
}

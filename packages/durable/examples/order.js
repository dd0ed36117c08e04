// node order.js [SERVERS] [ORDER]: a workflow that goes on where it was. Start it twice, kill one: the other one ships.
import { Executions, layer } from "@chorus/durable"
import { Console, Effect, Layer, Schema } from "effect"
import { Activity, DurableClock, Workflow } from "effect/workflow"

const [servers = "nats://127.0.0.1:4222", order = "17"] = process.argv.slice(2)

const Ship = Workflow.make("Ship", {
  payload: { order: Schema.String },
  success: Schema.String,
  idempotencyKey: (payload) => payload.order,
})

const ship = Ship.toLayer(
  Effect.fnUntraced(function* (payload) {
    const label = yield* Activity.make({
      name: "label",
      success: Schema.String,
      execute: Effect.as(Console.log(`prints the label of ${payload.order}`), `label ${payload.order}`),
    })
    yield* DurableClock.sleep({ name: "until it dries", duration: "1 second" })
    yield* Activity.make({ name: "hand over", execute: Console.log(`hands over ${label}`) })
    return label
  }),
)

const program = Effect.gen(function* () {
  yield* Console.log(`shipped: ${yield* Ship.execute({ order })}`)
  yield* Effect.flatMap(Executions, ({ idle }) => idle)
})

await Effect.runPromise(
  program.pipe(Effect.provide(ship.pipe(Layer.provideMerge(layer({ servers, namespace: "orders" }))))),
)

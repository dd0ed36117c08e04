// Traces on core NATS: subscribers hear them, and nothing waits for one.
import { Context, Effect, Layer } from "effect"
import { codec } from "../wire/codec.ts"
import { subjectsOf } from "../wire/subjects.ts"
import { IterationTrace } from "../wire/trace.ts"
import { Bus } from "./bus.ts"

export const traces = codec("trace of an iteration", IterationTrace)

export class Traces extends Context.Service<
  Traces,
  { readonly publish: (session: string, trace: IterationTrace) => Effect.Effect<void> }
>()("chorus/bus/Traces") {
  static layer(deployment: string) {
    return Layer.effect(
      this,
      Effect.map(Bus, ({ publish }) => {
        const subjects = subjectsOf(deployment)
        return Traces.of({
          publish: (session, trace) => Effect.sync(() => publish(subjects.trace(session), traces.encode(trace))),
        })
      }),
    )
  }
}

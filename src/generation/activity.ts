// An activity of a generation. Generate's journal is its token log, so an activity's result is not recorded: it needs no
// schema, and it is a span only where tracing is on.
import { Effect, Tracer } from "effect"

export const activity = <A, E, R>(name: string, execute: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Tracer.Tracer, (tracer) =>
    tracer === Tracer.nativeTracer ? execute : Effect.withSpan(execute, name, { captureStackTrace: false }),
  )

// What the engine keeps, as JSON. effect's engine contract speaks of workflows without the types of their schemas, so the
// one cast that follows from that is here.
import { Schema } from "effect"
import { Workflow } from "effect/workflow"

interface JsonCodec<A> {
  readonly encode: (value: A) => unknown
  readonly decode: (json: unknown) => A
}

const jsonCodec = <A>(schema: Schema.Top): JsonCodec<A> => {
  const codec = Schema.toCodecJson(schema) as unknown as Schema.Codec<A, unknown> // schemas of workflows need no services
  return { encode: Schema.encodeSync(codec), decode: Schema.decodeUnknownSync(codec) }
}

/** What an activity or a deferred gives comes encoded already. */
const Encoded = Schema.Union([Schema.Any, Schema.Void])
const result = (success: Schema.Top, error: Schema.Top) =>
  jsonCodec<Workflow.Result<unknown, unknown>>(Workflow.Result({ success, error }))

export const ACTIVITY = result(Encoded, Encoded)

/** Schemas are compiled once for each workflow, and not for each of its executions. */
const perWorkflow = <A>(make: (workflow: Workflow.Any) => JsonCodec<A>) => {
  const known = new WeakMap<Workflow.Any, JsonCodec<A>>()
  return (workflow: Workflow.Any): JsonCodec<A> => {
    const codec = known.get(workflow) ?? make(workflow)
    known.set(workflow, codec)
    return codec
  }
}

export const resultCodec = perWorkflow(({ successSchema, errorSchema }) => result(successSchema, errorSchema))

export const payloadCodec = perWorkflow(({ payloadSchema }) => jsonCodec<object>(payloadSchema))

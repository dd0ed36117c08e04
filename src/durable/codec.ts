// What the engine keeps, as JSON. effect's engine contract speaks of workflows without the types of their schemas, so the
// one cast that follows from that is here.
import { Effect, Schema } from "effect"
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

const results = new WeakMap<Workflow.Any, JsonCodec<Workflow.Result<unknown, unknown>>>()

/** Of a workflow's result. */
export const resultCodec = (workflow: Workflow.Any): JsonCodec<Workflow.Result<unknown, unknown>> => {
  const codec = results.get(workflow) ?? result(workflow.successSchema, workflow.errorSchema)
  results.set(workflow, codec)
  return codec
}

export const encodePayload = (workflow: Workflow.Any, payload: object): Effect.Effect<unknown> =>
  Effect.sync(() => jsonCodec<object>(workflow.payloadSchema).encode(payload))

export const decodePayload = (workflow: Workflow.Any, json: unknown): Effect.Effect<object> =>
  Effect.sync(() => jsonCodec<object>(workflow.payloadSchema).decode(json))

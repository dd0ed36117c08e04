// OpenTelemetry traces over OTLP, off unless OTEL_EXPORTER_OTLP_ENDPOINT says where to. A trace crosses NATS as a
// `traceparent` header (W3C Trace Context), so one trace leads from an HTTP request through the workflow's activities to the
// pass on each rank.
import { headers, type MsgHdrs } from "@nats-io/transport-node"
import { ConfigProvider, Effect, Layer, Option, Tracer } from "effect"
import { FetchHttpClient, Headers, HttpTraceContext } from "effect/http"
import { OtlpSerialization, OtlpTracer } from "effect/observability"

/** An endpoint is enough: OTLP is what OpenTelemetry's own SDKs export by where nothing else is said. */
const settings = () => ConfigProvider.fromEnv({ env: { OTEL_TRACES_EXPORTER: "otlp", ...process.env } })

/** Sends the spans of a process; the usual OTEL_ variables say where and how. What is not sent yet goes with the scope. */
export const telemetry = (serviceName: string) =>
  OtlpTracer.layerFromConfig({ resource: { serviceName } }).pipe(
    Layer.provide([OtlpSerialization.layerJson, FetchHttpClient.layer, ConfigProvider.layer(settings())]),
  )

/** The current span as a `traceparent`; undefined where nobody traces, which costs next to nothing. */
export const traceparent: Effect.Effect<string | undefined> = Effect.gen(function* () {
  const tracer = yield* Tracer.Tracer
  if (tracer === Tracer.nativeTracer) return undefined
  const span = yield* Effect.option(Effect.currentSpan)
  return Option.isSome(span) ? HttpTraceContext.toHeaders(span.value).traceparent : undefined
})

/** For a message that is sent in a span. */
export const traceHeaders = (traceparent: string | undefined): MsgHdrs | undefined => {
  if (traceparent === undefined) return undefined
  const carrying = headers()
  carrying.set("traceparent", traceparent)
  return carrying
}

/** The headers of a message; the services protocol's own package has a type of its own for them. */
export interface Carrying {
  readonly get: (name: string) => string
}

/** Runs an effect in a span below the one that a message was sent in; without a span where it was sent in none. */
export const tracedAs =
  (name: string, carrying: Carrying | undefined, attributes: Readonly<Record<string, unknown>>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    const given = carrying?.get("traceparent") ?? ""
    if (given === "") return effect
    const parent = Option.getOrUndefined(HttpTraceContext.w3c(Headers.fromInput({ traceparent: given })))
    return parent === undefined ? effect : effect.pipe(Effect.withSpan(name, { parent, attributes, kind: "server" }))
  }

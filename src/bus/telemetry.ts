// OpenTelemetry traces over OTLP, off unless OTEL_EXPORTER_OTLP_ENDPOINT says where to. A trace crosses NATS as a
// `traceparent` header (W3C Trace Context), so one trace leads from an HTTP request through the workflow's activities to the
// pass on each rank.
import { headers, type MsgHdrs } from "@nats-io/transport-node"
import { ConfigProvider, Effect, Layer, Option, Tracer } from "effect"
import { FetchHttpClient, Headers as HttpHeaders, HttpTraceContext } from "effect/http"
import { OtlpSerialization, OtlpTracer } from "effect/observability"
import type { Headers } from "./bus.ts"

/** An endpoint is enough: OTLP is what OpenTelemetry's own SDKs export by where nothing else is said. */
const settings = () => ConfigProvider.fromEnv({ env: { OTEL_TRACES_EXPORTER: "otlp", ...process.env } })

/** Sends the spans of a process; the usual OTEL_ variables say where and how. What is not sent yet goes with the scope. */
export const telemetry = (serviceName: string) =>
  OtlpTracer.layerFromConfig({ resource: { serviceName } }).pipe(
    Layer.provide([OtlpSerialization.layerJson, FetchHttpClient.layer, ConfigProvider.layer(settings())]),
  )

/** The current span as a `traceparent`; undefined where tracing is off, which costs next to nothing. */
export const traceparent: Effect.Effect<string | undefined> = Effect.gen(function* () {
  const tracer = yield* Tracer.Tracer
  if (tracer === Tracer.nativeTracer) return undefined
  const span = yield* Effect.option(Effect.currentSpan)
  return Option.isSome(span) ? HttpTraceContext.toHeaders(span.value).traceparent : undefined
})

/** What a message says of the request that it is sent for. */
export interface Origin {
  readonly traceparent?: string | undefined // of the span
  readonly requestId?: string | undefined // as its sender has named it
}

const REQUEST_ID = "x-request-id"

/** For a message; undefined where nothing is known. */
export const originHeaders = ({ traceparent, requestId }: Origin): MsgHdrs | undefined => {
  if (traceparent === undefined && requestId === undefined) return undefined
  const carrying = headers()
  if (traceparent !== undefined) carrying.set("traceparent", traceparent)
  if (requestId !== undefined) carrying.set(REQUEST_ID, requestId)
  return carrying
}

/** What comes of others stands in the log as one short word. */
const requestIdOf = (carrying: Headers | undefined): string =>
  (carrying?.get(REQUEST_ID) ?? "").replaceAll(/[^\x21-\x7e]/g, "").slice(0, 128)

/** What is logged of a message says which request it is of. */
export const loggedAs =
  (carrying: Headers | undefined) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    const request = requestIdOf(carrying)
    return request === "" ? effect : Effect.annotateLogs(effect, { request })
  }

/** Runs an effect in a span below the one that a message was sent in; without a span where it was sent in none. */
export const tracedAs =
  (name: string, carrying: Headers | undefined, attributes: Readonly<Record<string, unknown>>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    const given = carrying?.get("traceparent") ?? ""
    if (given === "") return effect
    const parent = Option.getOrUndefined(HttpTraceContext.w3c(HttpHeaders.fromInput({ traceparent: given })))
    if (parent === undefined) return effect
    const request = requestIdOf(carrying)
    const all = request === "" ? attributes : { ...attributes, request }
    return effect.pipe(Effect.withSpan(name, { parent, attributes: all, kind: "server" }))
  }

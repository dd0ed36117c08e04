// The gateway: an HTTP server in front of whatever is served on a NATS server. It holds no session and no state that would be
// missed, so there may be any number of them.
import { createServer, type Server, STATUS_CODES } from "node:http"
import type { Duplex } from "node:stream"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer" // the whole package takes half a second to load
import { Deferred, Effect, Layer, Schema } from "effect"
import { HttpMiddleware, HttpRouter } from "effect/http"
import { Beats } from "./beats.ts"
import { Callers } from "./callers.ts"
import { chat } from "./chat.ts"
import { Closing, shuttingDown } from "./closing.ts"
import { completions } from "./completions.ts"
import { Deployments } from "./deployments.ts"
import { type ApiError, apiError, bodyOf } from "./errors.ts"
import { health, PROBES, version } from "./health.ts"
import { metricsPage } from "./metricsPage.ts"
import { model, models } from "./models.ts"
import { nowhere } from "./nowhere.ts"
import { type GatewayOptions, Options } from "./options.ts"
import { playground } from "./playground.ts"
import { named, newRequestId, X_REQUEST_ID } from "./requestId.ts"
import { IGNORED, Strangers } from "./strangers.ts"

/** Answers that run when the gateway ends have so long to do so. Then they are told why they end, for which there is a moment. */
const FAREWELL_MILLIS = 2_000
const LAST_WORD_MILLIS = 1_000

export class CannotListen extends Schema.TaggedError<CannotListen>()("CannotListen", {
  host: Schema.String,
  port: Schema.Int,
  reason: Schema.String,
}) {
  override get message() {
    return `HTTP cannot listen on ${this.host}:${this.port}: ${this.reason}`
  }
}

/** Every route of the gateway: a new one is added here. */
const OWN = [chat, completions, models, model, ...health, version, metricsPage, ...playground]

/** HEAD of whatever has a GET. */
const HEADS = OWN.flatMap((route) => (route.method === "GET" ? [{ ...route, method: "HEAD" as const }] : []))

const routes = HttpRouter.addAll([...OWN, ...HEADS, nowhere([...OWN, ...HEADS])])

/** Serves until the scope closes. Ends with the URL when it listens. */
export const gateway = Effect.fnUntraced(function* (options: GatewayOptions) {
  const server = createServer({ keepAliveTimeout: 65_000 }) // longer than a load balancer's minute
  server.on("clientError", refuse)
  const closing = yield* Deferred.make<never, ApiError>()
  const services = Layer.mergeAll(Deployments.layer, Beats.layer, Callers.layer, Strangers.layer).pipe(
    Layer.provide(Layer.succeed(Options, options)),
    Layer.merge(Layer.succeed(Closing, { over: Deferred.await(closing) })),
  )
  yield* HttpRouter.serve(Layer.mergeAll(routes, cors(options), named), {
    disableLogger: true,
    disableListenLog: true,
  }).pipe(
    Layer.provide([services, Layer.succeed(Options, options), spans]),
    Layer.provide(
      NodeHttpServer.layer(() => server, {
        host: options.host,
        port: options.port,
        gracefulShutdownTimeout: FAREWELL_MILLIS + LAST_WORD_MILLIS,
      }),
    ),
    Layer.build,
    Effect.catchTag("ServeError", ({ cause }) => Effect.fail(taken(options, cause))),
  )
  yield* Effect.addFinalizer(() => Effect.sync(() => takeLeave(server, closing)))
  return urlOf(server, options.host)
})

/** Whose pages may ask; by default no other page than the gateway's own. */
const cors = ({ corsOrigins }: GatewayOptions) =>
  corsOrigins.length === 0
    ? Layer.empty
    : HttpRouter.cors({
        allowedOrigins: corsOrigins,
        allowedMethods: ["GET", "POST"],
        exposedHeaders: ["retry-after", "retry-after-ms", X_REQUEST_ID, IGNORED],
        maxAge: 600,
      })

/** Spans are named by what was asked; probes of liveness need none. */
const spans = Layer.mergeAll(
  Layer.succeed(HttpMiddleware.SpanNameGenerator, ({ method, url }) => `${method} ${url.replace(/\?.*$/s, "")}`),
  HttpMiddleware.layerTracerDisabledForUrls([...PROBES, "/version", "/metrics"]),
  Layer.succeed(HttpMiddleware.TracerHeaderFilter, (header, phase) => header === X_REQUEST_ID && phase === "response"),
)

const taken = ({ host, port }: GatewayOptions, cause: unknown): CannotListen => {
  const busy = cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE"
  const why = cause instanceof Error ? cause.message : String(cause)
  const reason = busy ? "the port is taken. End what listens there, or choose another: --port 0 takes a free one" : why
  return new CannotListen({ host, port, reason })
}

/** A connection that says nothing must not hold up the end: after the last word, all are closed. */
const takeLeave = (server: Server, closing: Deferred.Deferred<never, ApiError>): void => {
  setTimeout(() => Deferred.doneUnsafe(closing, Effect.fail(shuttingDown)), FAREWELL_MILLIS).unref()
  setTimeout(() => server.closeAllConnections(), FAREWELL_MILLIS + LAST_WORD_MILLIS + 500).unref()
}

const urlOf = (server: Server, host: string): string => {
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`
}

/** What Node's parser refuses, in the same form as everything else. */
const refuse = (error: Error & { readonly code?: string }, socket: Duplex): void => {
  if (!socket.writable || error.code === "ECONNRESET") return void socket.destroy()
  const refusal =
    error.code === "HPE_HEADER_OVERFLOW"
      ? apiError(431, "headers_too_large", "the headers are too large")
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? apiError(408, "request_timeout", "the request did not arrive in time")
        : apiError(400, "invalid_http", `this is not HTTP/1.1: ${error.message}`)
  const body = JSON.stringify(bodyOf(refusal))
  const head = `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}`
  const id = `${X_REQUEST_ID}: ${newRequestId()}`
  const headers = `content-type: application/json\r\n${id}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close`
  socket.end(`${head}\r\n${headers}\r\n\r\n${body}`)
}

// The bus over NATS: one connection a process, which dials again by itself for as long as the process lives.
import {
  AuthorizationError,
  InvalidArgumentError,
  type NatsConnection,
  headers as natsHeaders,
  PermissionViolationError,
  RequestError,
  TimeoutError,
} from "@nats-io/transport-node"
import { Context, Effect, Layer, PubSub, type Scope, Stream, SubscriptionRef } from "effect"
import type { Role } from "../wire/permissions.ts"
import { accessOf, OPEN } from "./access.ts"
import { Bus, type Message, type RequestOptions, type SubscribeOptions, Unanswered } from "./bus.ts"
import { dial, dialError, inboxOf, NatsRefused } from "./dial.ts"
import { registerAt } from "./services.ts"

export interface NatsOptions {
  readonly url: string
  readonly name: string // of the connection, as `nats server report connections` shows it
  readonly role?: Role // whose key it shows; left out: none, which a server without users takes
  readonly keys?: string | null // folder; left out or null: what the environment says
  readonly echo?: boolean // whether this connection hears what it publishes; ranks do not
}

/** The connection itself, for what is stored on its server (src/store/jetStream.ts) and for clients of other deployments. */
export class Nats extends Context.Service<Nats, { readonly connection: NatsConnection }>()("chorus/bus/Nats") {
  static layer(options: NatsOptions) {
    return Layer.effectContext(Effect.flatMap(connected(options), (connection) => busOver(connection, options.name)))
  }
}

const connected = Effect.fnUntraced(function* ({ url, name, role, keys = null, echo = true }: NatsOptions) {
  const access = role === undefined ? OPEN : accessOf(role, keys, process.env)
  const connection = yield* Effect.acquireRelease(
    Effect.tryPromise({
      try: () =>
        dial({
          ...{ url, access, name },
          noEcho: !echo,
          noAsyncTraces: true,
          maxReconnectAttempts: -1,
          reconnectTimeWait: 100,
          reconnectJitter: 50,
          pingInterval: 1000, // a frozen server is noticed only by pings
          maxPingOut: 2,
        }),
      catch: (error) => dialError(error, url, access),
    }),
    (connection) =>
      Effect.tryPromise(() => connection.drain()).pipe(
        Effect.timeout("3 seconds"),
        Effect.catch(() => Effect.promise(() => connection.close())), // disconnected: nothing to drain, but dialling goes on
        Effect.when(Effect.sync(() => !connection.isClosed())),
      ),
  )
  yield* Effect.forkScoped(
    Effect.flatMap(
      Effect.promise(() => connection.closed()),
      (why) => (why instanceof AuthorizationError ? turnedOut(new NatsRefused({ url, key: access.key })) : Effect.void),
    ),
  )
  return connection
})

const busOver = Effect.fnUntraced(function* (connection: NatsConnection, name: string) {
  const disconnects = yield* PubSub.sliding<void>(1)
  const connected = yield* SubscriptionRef.make(true)
  yield* Effect.forkScoped(
    Stream.fromAsyncIterable(connection.status(), () => undefined).pipe(
      Stream.runForEach((status) => {
        const { type } = status
        if (type === "error" && status.error instanceof PermissionViolationError)
          return Effect.logWarning(forbidden(name, status.error))
        if (type === "reconnect") return SubscriptionRef.set(connected, true)
        if (type !== "disconnect" && type !== "staleConnection") return Effect.void
        return Effect.andThen(SubscriptionRef.set(connected, false), PubSub.publish(disconnects, undefined))
      }),
      Effect.ignore,
    ),
  )
  const publish = (subject: string, data?: Uint8Array, reply?: string): void => {
    if (connection.isClosed()) return
    if (reply === undefined) connection.publish(subject, data)
    else connection.publish(subject, data, { reply })
  }
  const bus = Bus.of({
    ...{ publish, connected, disconnects },
    respond: ({ reply = "" }, data) => (reply === "" ? undefined : publish(reply, data)),
    subscribe: (subject, heard, options) => listen(connection, subject, heard, options),
    request: (subject, data, options) => ask(connection, subject, data, options),
    register: (entry) => registerAt(connection, entry),
    flush: Effect.suspend(() =>
      connection.isClosed()
        ? Effect.void
        : Effect.tryPromise({ try: () => connection.flush(), catch: unanswered("the server") }),
    ),
    inbox: () => inboxOf(connection),
    maxPayload: () => connection.info?.max_payload ?? 2 ** 20,
  })
  return Context.make(Bus, bus).pipe(Context.add(Nats, { connection }))
})

const listen = (
  connection: NatsConnection,
  subject: string,
  heard: (message: Message) => void,
  { queue, drains = false }: SubscribeOptions = {},
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() =>
        connection.subscribe(subject, {
          ...(queue === undefined ? {} : { queue }),
          callback: (error, message) => (error === null ? heard(message) : undefined),
        }),
      ),
      (subscription) =>
        drains
          ? Effect.tryPromise(() => subscription.drain()).pipe(Effect.timeout("1 second"), Effect.ignore)
          : Effect.sync(() => subscription.unsubscribe()),
    ),
  )

const ask = (
  connection: NatsConnection,
  subject: string,
  data: Uint8Array,
  { withinMillis, headers }: RequestOptions,
): Effect.Effect<Message, Unanswered> =>
  Effect.tryPromise({
    try: () => {
      const carrying = headers === undefined ? undefined : natsHeaders()
      for (const [name, value] of Object.entries(headers ?? {})) carrying?.set(name, value)
      return connection.request(subject, data, {
        timeout: withinMillis,
        ...(carrying === undefined ? {} : { headers: carrying }),
      })
    },
    catch: unanswered(subject),
  })

const unanswered =
  (subject: string) =>
  (error: unknown): Unanswered => {
    if (error instanceof RequestError && error.isNoResponders()) {
      return new Unanswered({ subject, reason: "nobody listens" })
    }
    // Subjects and time-outs are of our own making: what is wrong with them is the size.
    if (error instanceof InvalidArgumentError) return new Unanswered({ subject, reason: "too large" })
    return new Unanswered({ subject, reason: error instanceof TimeoutError ? "timeout" : "closed" })
  }

/** The server has other users since: this process can do nothing more, and its parent starts it anew. */
const turnedOut = ({ message }: NatsRefused) =>
  Effect.sync(() => {
    process.stderr.write(`${message}\n`)
    process.kill(process.pid, "SIGTERM")
  })

/** The log is the only place that shows it: the server drops a forbidden message and does not tell the caller. */
const forbidden = (name: string, { operation, subject }: PermissionViolationError): string =>
  `NATS does not let ${name} ${operation === "publish" ? "publish to" : "subscribe to"} ${subject}. Is its key the one of its role, and the server's users.conf of this version?`

// The connection to NATS as a service. Reconnecting clients lose what they publish meanwhile without a word (see
// ARCHITECTURE.md), so whoever waits for an answer watches `disconnects` and repeats by pass number.

import {
  AuthorizationError,
  type ConnectionOptions,
  connect,
  createInbox,
  type NatsConnection,
  PermissionViolationError,
  RequestError,
} from "@nats-io/transport-node"
import { Context, Effect, Layer, PubSub, Schema, Stream, SubscriptionRef } from "effect"
import { ENVIRONMENT } from "../wire/deployment.ts"
import { MalformedMessage } from "../wire/errors.ts"
import type { Role } from "../wire/permissions.ts"
import { type Access, accessOf, BadKey, OPEN, showing } from "./access.ts"

export class NatsUnreachable extends Schema.TaggedError<NatsUnreachable>()("NatsUnreachable", {
  url: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `cannot reach NATS at ${this.url}: ${this.reason}. Is nats-server running there? \`chorus up\` starts one when no --nats is given.`
  }
}

/** The server is there and does not let us in. */
export class NatsRefused extends Schema.TaggedError<NatsRefused>()("NatsRefused", {
  url: Schema.String,
  key: Schema.NullOr(Schema.String), // path
}) {
  override get message() {
    if (this.key !== null) {
      return `NATS at ${this.url} does not know the key ${this.key}. Take the one that was made with the server's users.conf, or load that file into the server.`
    }
    return `NATS at ${this.url} asks for a key. Name the folder of keys that \`chorus keys\` has made for it: --keys FOLDER, or ${ENVIRONMENT.natsKeys}.`
  }
}

/** The server's certificate is not one that we trust, or not for its address. */
export class NatsUntrusted extends Schema.TaggedError<NatsUntrusted>()("NatsUntrusted", {
  url: Schema.String,
  reason: Schema.String,
  ca: Schema.NullOr(Schema.String), // path
}) {
  override get message() {
    const trusted = this.ca === null ? "none was given" : `it was checked against ${this.ca}`
    return `the certificate of NATS at ${this.url} is not trusted: ${this.reason}. The CA's certificate is ca.pem beside the keys, or ${ENVIRONMENT.natsCa} (${trusted}); \`chorus keys --server NAME\` makes one for an address.`
  }
}

export type DialError = NatsUnreachable | NatsRefused | NatsUntrusted | BadKey

export interface Dialling extends Omit<ConnectionOptions, "servers" | "authenticator" | "inboxPrefix" | "tls"> {
  readonly url: string
  readonly access: Access
}

const prefixes = new WeakMap<NatsConnection, string>()

/** A subject of one's own for answers, which this connection may listen to. */
export const inboxOf = (connection: NatsConnection): string => createInbox(prefixes.get(connection))

/** Rejects with a DialError. */
export const dial = async ({ url, access, ...options }: Dialling): Promise<NatsConnection> => {
  try {
    const shown = showing(access)
    const connection = await connect({ servers: url.split(","), ...options, ...shown })
    if (shown.inboxPrefix !== undefined) prefixes.set(connection, shown.inboxPrefix)
    return connection
  } catch (error) {
    throw dialError(error, url, access)
  }
}

const isDialError = Schema.is(Schema.Union([NatsUnreachable, NatsRefused, NatsUntrusted, BadKey]))

const dialError = (error: unknown, url: string, { key, ca }: Access): DialError => {
  if (isDialError(error)) return error
  if (error instanceof AuthorizationError) return new NatsRefused({ url, key })
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const reason = cause instanceof Error ? cause.message : String(cause)
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : ""
  return /CERT|SELF_SIGNED|ERR_TLS|VERIFY/.test(code)
    ? new NatsUntrusted({ url, reason, ca })
    : new NatsUnreachable({ url, reason })
}

export interface NatsOptions {
  readonly url: string
  readonly name: string // of the connection, as `nats server report connections` shows it
  readonly role?: Role // whose key it shows; left out: none, which a server without users takes
  readonly keys?: string | null // folder; left out or null: what the environment says
  readonly echo?: boolean // whether this connection hears what it publishes; ranks do not
}

export class Nats extends Context.Service<
  Nats,
  {
    readonly connection: NatsConnection
    /** One element each time the connection is lost. */
    readonly disconnects: PubSub.PubSub<void>
    /** Whether it stands now, and each change of that. */
    readonly connected: SubscriptionRef.SubscriptionRef<boolean>
  }
>()("chorus/fabric/Nats") {
  static layer(options: NatsOptions) {
    return Layer.effect(this, open(options))
  }
}

type Event = "disconnect" | "reconnect" | "close"

const watched = new WeakMap<NatsConnection, Set<(event: Event) => void>>()

/** Calls with what becomes of a connection, until the function that it gives is called. One watch of each connection, for all. */
export const onEvent = (connection: NatsConnection, heard: (event: Event) => void): (() => void) => {
  const listeners = watched.get(connection) ?? watch(connection)
  listeners.add(heard)
  return () => listeners.delete(heard)
}

const watch = (connection: NatsConnection): Set<(event: Event) => void> => {
  const listeners = new Set<(event: Event) => void>()
  watched.set(connection, listeners)
  const hear = async (): Promise<void> => {
    for await (const { type } of connection.status()) {
      if (type === "disconnect" || type === "reconnect" || type === "close") for (const heard of listeners) heard(type)
    }
  }
  void hear()
  return listeners
}

/** What a question's answer is, or a rejection as soon as the connection is back from a loss: then no answer will come. */
export const answered = async <A>(connection: NatsConnection, answer: Promise<A>): Promise<A> => {
  let unwatch = (): void => {}
  const lost = new Promise<never>((_, reject) => {
    unwatch = onEvent(connection, (event) => {
      if (event !== "disconnect") reject(new Error("the connection was lost while an answer was waited for"))
    })
  })
  try {
    return await Promise.race([answer, lost])
  } finally {
    unwatch()
  }
}

/** How often a question is asked again, and the time between. */
const ATTEMPTS = 50
const ATTEMPT_AGAIN_MILLIS = 100

/** Asks again where the connection was lost meanwhile, or who is to answer is not back yet. */
export const untilAnswered = async <A>(connection: NatsConnection, ask: () => Promise<A>): Promise<A> => {
  for (let attempt = 0; ; attempt++) {
    try {
      return await answered(connection, ask())
    } catch (error) {
      const final =
        connection.isClosed() || attempt === ATTEMPTS || error instanceof MalformedMessage || isForbidden(error)
      if (final) throw error
      await new Promise((resolve) => setTimeout(resolve, ATTEMPT_AGAIN_MILLIS))
    }
  }
}

const isForbidden = (error: unknown): boolean =>
  error instanceof RequestError && error.cause instanceof PermissionViolationError

/** Between two tries to say what a lost connection has swallowed. */
const AGAIN_MILLIS = 100

/** For what nobody answers and has to arrive: said until the server has it, since what is published while the connection is down is lost. */
export const insist = async (connection: NatsConnection, subject: string, message?: Uint8Array): Promise<void> => {
  while (!connection.isClosed()) {
    try {
      connection.publish(subject, message)
      return await connection.flush()
    } catch {
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MILLIS))
    }
  }
}

const open = Effect.fnUntraced(function* ({ url, name, role, keys = null, echo = true }: NatsOptions) {
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
  return Nats.of({ connection, disconnects, connected })
})

/** Nobody else hears of it: what is forbidden is not said, without a word to who said it. */
const forbidden = (name: string, { operation, subject }: PermissionViolationError): string =>
  `NATS does not let ${name} ${operation === "publish" ? "publish to" : "subscribe to"} ${subject}. Is its key the one of its role, and the server's users.conf of this version?`

// The connection to NATS as a service. Reconnecting clients lose what they publish meanwhile without a word (see
// ARCHITECTURE.md), so whoever waits for an answer watches `disconnects` and repeats by pass number.

import {
  AuthorizationError,
  type NatsConnection,
  PermissionViolationError,
  RequestError,
} from "@nats-io/transport-node"
import { Context, Effect, Layer, PubSub, Stream, SubscriptionRef } from "effect"
import { MalformedMessage, StorageRefused } from "../wire/errors.ts"
import type { Role } from "../wire/permissions.ts"
import { accessOf, OPEN } from "./access.ts"
import { dial, dialError, NatsRefused } from "./dial.ts"

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
>()("chorus/bus/Nats") {
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

/** How long a question is asked again, and the time between: a supervisor may have to be started first. */
const PATIENCE_MILLIS = 60_000

/** Where a storage refuses, somebody has to do something about it first. */
const REFUSED_MILLIS = 10_000
const ATTEMPT_AGAIN_MILLIS = 100

/** Asks again where the connection was lost meanwhile, or who is to answer is not back yet. */
export const untilAnswered = async <A>(connection: NatsConnection, ask: () => Promise<A>): Promise<A> => {
  const began = performance.now()
  for (;;) {
    try {
      return await answered(connection, ask())
    } catch (error) {
      const patience = error instanceof StorageRefused ? REFUSED_MILLIS : PATIENCE_MILLIS
      const late = performance.now() - began > patience
      if (late || connection.isClosed() || error instanceof MalformedMessage || isForbidden(error)) throw error
      await new Promise((resolve) => setTimeout(resolve, ATTEMPT_AGAIN_MILLIS))
    }
  }
}

export const isForbidden = (error: unknown): boolean =>
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
  yield* Effect.forkScoped(
    Effect.flatMap(
      Effect.promise(() => connection.closed()),
      (why) => (why instanceof AuthorizationError ? turnedOut(new NatsRefused({ url, key: access.key })) : Effect.void),
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

/** The server has other users since: this process can do nothing any more, and whoever has started it starts it anew. */
const turnedOut = ({ message }: NatsRefused) =>
  Effect.sync(() => {
    process.stderr.write(`${message}\n`)
    process.kill(process.pid, "SIGTERM")
  })

/** Nobody else hears of it: what is forbidden is not said, without a word to who said it. */
const forbidden = (name: string, { operation, subject }: PermissionViolationError): string =>
  `NATS does not let ${name} ${operation === "publish" ? "publish to" : "subscribe to"} ${subject}. Is its key the one of its role, and the server's users.conf of this version?`

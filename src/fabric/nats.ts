// The connection to NATS as a service. Reconnecting clients lose what they publish meanwhile without a word (see
// ARCHITECTURE.md), so whoever waits for an answer watches `disconnects` and repeats by pass number.

import { connect, type NatsConnection } from "@nats-io/transport-node"
import { Context, Effect, Layer, PubSub, Schema, Stream, SubscriptionRef } from "effect"

export class NatsUnreachable extends Schema.TaggedError<NatsUnreachable>()("NatsUnreachable", {
  url: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `cannot reach NATS at ${this.url}: ${this.reason}. Is nats-server running there? \`chorus up\` starts one when no --nats is given.`
  }
}

export interface NatsOptions {
  readonly url: string
  readonly name: string // of the connection, as `nats server report connections` shows it
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

const open = Effect.fnUntraced(function* ({ url, name, echo = true }: NatsOptions) {
  const connection = yield* Effect.acquireRelease(
    Effect.tryPromise({
      try: () =>
        connect({
          servers: url.split(","),
          name,
          noEcho: !echo,
          noAsyncTraces: true,
          maxReconnectAttempts: -1,
          reconnectTimeWait: 100,
          reconnectJitter: 50,
          pingInterval: 1000, // a frozen server is noticed only by pings
          maxPingOut: 2,
        }),
      catch: (error) => new NatsUnreachable({ url, reason: error instanceof Error ? error.message : String(error) }),
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
      Stream.runForEach(({ type }) => {
        if (type === "reconnect") return SubscriptionRef.set(connected, true)
        if (type !== "disconnect" && type !== "staleConnection") return Effect.void
        return Effect.andThen(SubscriptionRef.set(connected, false), PubSub.publish(disconnects, undefined))
      }),
      Effect.ignore,
    ),
  )
  return Nats.of({ connection, disconnects, connected })
})

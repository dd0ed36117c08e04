// The connection to NATS as a service. Reconnecting clients lose what they publish meanwhile without a word (see
// ARCHITECTURE.md), so whoever waits for an answer watches `disconnects` and repeats by pass number.

import { connect, type NatsConnection } from "@nats-io/transport-node"
import { Context, Effect, Layer, PubSub, Schema } from "effect"

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
  }
>()("chorus/fabric/Nats") {
  static layer(options: NatsOptions) {
    return Layer.effect(this, open(options))
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
  yield* Effect.forkScoped(
    Effect.tryPromise(async () => {
      for await (const status of connection.status()) {
        if (status.type === "disconnect" || status.type === "staleConnection")
          PubSub.publishUnsafe(disconnects, undefined)
      }
    }).pipe(Effect.ignore),
  )
  return Nats.of({ connection, disconnects })
})

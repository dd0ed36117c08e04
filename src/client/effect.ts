// The client as an Effect service: typed failures, streams, and interruption that cancels. The same calls as index.ts.
import { Context, Effect, Layer, Schema, Stream } from "effect"
import { BadKey } from "../bus/access.ts"
import { NatsRefused, NatsUntrusted } from "../bus/dial.ts"
import { InferError, SessionExpired } from "../wire/errors.ts"
import type { InferRequest, LoggedToken } from "../wire/infer.ts"
import { Disconnected, NoAnswer, NotServed } from "./errors.ts"
import { type ClientOptions, type Completion, connect, type Generation, type StreamOptions } from "./index.ts"
import type { ServedModel } from "./models.ts"
import type { Ending, Reading } from "./reading.ts"

/** All that can go wrong on this side of a request. */
const ClientError = Schema.Union([
  ...InferError.members,
  SessionExpired,
  NotServed,
  NoAnswer,
  Disconnected,
  NatsRefused,
  NatsUntrusted,
  BadKey,
])
export type ClientError = typeof ClientError.Type

/** A session that was accepted. Its tokens can be read once, or its ending waited for. */
export interface Session extends Pick<Generation, "session" | "promptTokens" | "seed" | "sampling"> {
  readonly tokens: Stream.Stream<LoggedToken, ClientError>
  readonly ending: Effect.Effect<Ending, ClientError>
}

/**
 * Effect.flatMap(Chorus, ({ tokens }) => Stream.runForEach(tokens({ prompt: "export class" }), ({ text }) => Console.log(text)))
 *   .pipe(Effect.provide(Chorus.layer({ url: "nats://127.0.0.1:4222", deployment: "demo" })))
 */
export class Chorus extends Context.Service<
  Chorus,
  {
    /** A session of its own: it goes on when the fibre that asked for it is interrupted. */
    readonly generate: (request: InferRequest) => Effect.Effect<Session, ClientError>
    /** The answer's tokens. A stream that is left before its end cancels the session. */
    readonly tokens: (request: InferRequest) => Stream.Stream<LoggedToken, ClientError>
    /** The whole answer. Interruption cancels the session. */
    readonly complete: (request: InferRequest) => Effect.Effect<Completion, ClientError>
    /** A session that was accepted before, by whomever. */
    readonly find: (session: string) => Effect.Effect<Session, ClientError>
    readonly stream: (session: string, options?: Pick<StreamOptions, "from">) => Stream.Stream<LoggedToken, ClientError>
    readonly cancel: (session: string) => Effect.Effect<void>
    readonly models: Effect.Effect<ReadonlyArray<ServedModel>, ClientError>
  }
>()("chorus/client/Chorus") {
  static layer(options: ClientOptions) {
    return Layer.effect(this, open(options))
  }
}

const open = Effect.fnUntraced(function* (options: ClientOptions) {
  const failed = (error: unknown): ClientError =>
    isClientError(error) ? error : new Disconnected({ url: options.url, reason: String(error) })
  const attempt = <A>(call: (signal: AbortSignal) => Promise<A>) => Effect.tryPromise({ try: call, catch: failed })
  const client = yield* Effect.acquireRelease(
    attempt(() => connect(options)),
    (client) => Effect.promise(() => client.close()),
  )
  const readingOf = (reading: Reading) => Stream.fromAsyncIterable(reading, failed)
  const cancel = (session: string) => Effect.sync(() => client.cancel(session))
  const generate = (request: InferRequest) => attempt(() => client.generate(request))
  const sessionOf = (generation: Generation): Session => ({
    session: generation.session,
    promptTokens: generation.promptTokens,
    seed: generation.seed,
    sampling: generation.sampling,
    tokens: readingOf(generation),
    ending: attempt(() => generation.ending()),
  })
  return Chorus.of({
    generate: (request) => Effect.map(generate(request), sessionOf),
    find: (session) =>
      Effect.map(
        attempt(() => client.find(session)),
        sessionOf,
      ),
    tokens: (request) =>
      Stream.unwrap(
        Effect.map(
          Effect.acquireRelease(generate(request), ({ session }) => cancel(session)), // nothing where it has ended
          readingOf,
        ),
      ),
    complete: (request) => attempt((signal) => client.complete(request, { signal })),
    stream: (session, { from = "start" } = {}) => Stream.suspend(() => readingOf(client.stream(session, { from }))),
    cancel,
    models: attempt(() => client.models()),
  })
})

const isClientError = Schema.is(ClientError)

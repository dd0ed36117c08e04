// The client as an Effect service: typed failures, streams, and interruption that cancels. The same calls as index.ts.
import { Context, Effect, Layer, Stream } from "effect"
import type { Answer, ServedModel, Session, Token } from "./answer.ts"
import { asCaller, type ChorusError, isChorusError } from "./errors.ts"
import { type Chorus as Client, type ConnectOptions, connect, type ResumeOptions } from "./index.ts"
import type { GenerateRequest } from "./request.ts"

/**
 * @example
 * ```ts
 * Effect.flatMap(Chorus, ({ tokens }) => Stream.runForEach(tokens({ prompt: "export class" }), ({ text }) => Console.log(text)))
 *   .pipe(Effect.provide(Chorus.layer({ servers: "nats://127.0.0.1:4222", deployment: "demo" })))
 * ```
 */
export class Chorus extends Context.Service<
  Chorus,
  {
    /** The answer's tokens. A stream that is left before its end cancels the session. */
    readonly tokens: (request: GenerateRequest) => Stream.Stream<Token, ChorusError>
    /** The whole answer. Interruption cancels the session. */
    readonly answer: (request: GenerateRequest) => Effect.Effect<Answer, ChorusError>
    /** Begins a session, which goes on when whoever has asked for it is interrupted. */
    readonly begin: (request: GenerateRequest) => Effect.Effect<Session, ChorusError>
    /** The tokens of a session that was accepted before, by whatever process. */
    readonly resume: (
      session: string,
      options?: Pick<ResumeOptions, "deployment" | "from">,
    ) => Stream.Stream<Token, ChorusError>
    readonly models: Effect.Effect<ReadonlyArray<ServedModel>, ChorusError>
  }
>()("@chorus/client/Chorus") {
  /** A connection for as long as the layer's scope is open. */
  static layer(options: ConnectOptions): Layer.Layer<Chorus, ChorusError> {
    return Layer.effect(
      this,
      Effect.map(
        Effect.acquireRelease(
          attempt(() => connect(options)),
          (client) => Effect.promise(() => client.close()),
        ),
        serviceOf,
      ),
    )
  }
}

const serviceOf = (client: Client): Chorus["Service"] =>
  Chorus.of({
    // Leaving the iteration, which an interruption does, cancels.
    tokens: (request) => Stream.suspend(() => streamOf(client.generate(request))),
    answer: (request) => attempt((signal) => client.generate(request, { signal })),
    begin: (request) => Effect.uninterruptible(attempt(() => client.generate(request).session)),
    resume: (session, options) => Stream.suspend(() => streamOf(client.resume(session, options))),
    models: attempt(() => client.models()),
  })

const streamOf = (tokens: AsyncIterable<Token>): Stream.Stream<Token, ChorusError> =>
  Stream.catch(Stream.fromAsyncIterable(tokens, asCaller), (error) => Stream.fromEffect(failing(error)))

const attempt = <A>(call: (signal: AbortSignal) => PromiseLike<A>): Effect.Effect<A, ChorusError> =>
  Effect.tryPromise({ try: call, catch: asCaller }).pipe(Effect.catch(failing))

const failing = (error: unknown): Effect.Effect<never, ChorusError> =>
  isChorusError(error) ? Effect.fail(error) : Effect.die(error)

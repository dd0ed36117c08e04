// The sessions of one deployment that this supervisor owns: those that it has accepted, and those that it has taken over
// from one that is gone. What a session says is in its log; whoever waits for the whole answer gets it from here.
import { Context, Deferred, Effect, Exit, Layer, Semaphore } from "effect"
import { Nats } from "../bus/nats.ts"
import { type Carrying, tracedAs } from "../bus/telemetry.ts"
import { layer as durable, Executions } from "../durable/engine.ts"
import { Ownership } from "../durable/ownership.ts"
import type { GenerateError } from "../generation/errors.ts"
import { Generate, generate } from "../generation/generate.ts"
import { Admitted, Cancellation, type GenerateRequest, kvOf, Place } from "../generation/state.ts"
import type { Model } from "../model/index.ts"
import { ReplicaSet } from "../replica/replicaSet.ts"
import { TokenLog } from "../store/tokenLog.ts"
import { codec } from "../wire/codec.ts"
import type { Deployment } from "../wire/deployment.ts"
import { ActivationFailed } from "../wire/errors.ts"
import { type Answer, SessionProgress } from "../wire/infer.ts"
import { subjectsOf } from "../wire/subjects.ts"
import type { Admitting } from "./admitting.ts"
import { answered } from "./answers.ts"
import type { Endings } from "./lifetime.ts"

const progresses = codec("session progress", SessionProgress)

/** A session that was accepted here, for the workflow that begins with it. */
interface Accepted {
  readonly admitted: Admitted["Service"]
  readonly since: number // by performance's clock
  readonly headers: Carrying | undefined
  readonly answer: Deferred.Deferred<Answer | null, GenerateError> // null: another supervisor goes on with it
}

export interface Sessions {
  /** Ends when the session is sure to go on, whatever happens here. Gives what ends with its answer. */
  readonly accept: (
    request: GenerateRequest,
    of: Pick<Accepted, "admitted" | "since" | "headers">,
  ) => Effect.Effect<Effect.Effect<Answer | null, GenerateError>>
  /** Ends when all sessions have. */
  readonly idle: Effect.Effect<void>
}

export interface SessionsOptions {
  readonly deployment: Deployment
  readonly base: Model
  readonly admission: Admitting
  readonly endings: Endings
}

/** Runs them until the scope closes: then those that still run are another supervisor's. */
export const sessions = Effect.fnUntraced(function* ({ deployment, base, admission, endings }: SessionsOptions) {
  const { connection } = yield* Nats
  const replicas = yield* ReplicaSet
  const log = yield* TokenLog
  const subjects = subjectsOf(deployment.name)
  const accepted = new Map<string, Accepted>()
  const suspects = Semaphore.makeUnsafe(1)

  /** Told to whoever listens. */
  const tell = (session: string) => (fraction: number) =>
    connection.publish(subjects.progress(session), progresses.encode({ _tag: "Activating", fraction }))

  const takeOver = Effect.fnUntraced(function* (request: GenerateRequest) {
    const { session, client, prompt, maxTokens } = request
    const { epoch } = yield* Ownership
    for (let former = 1; former < epoch; former++) yield* replicas.free(kvOf(session, former))
    const age = log.age(session).pipe(Effect.catch(() => Effect.succeed(0))) // nobody knows: it has all its time again
    endings.open(session, request, request.deadlineMillis === null ? 0 : yield* age)
    const admitted = yield* admission.takeOver({ session, client, prompt: prompt.length, maxTokens })
    return { admitted, since: performance.now(), headers: undefined }
  })

  /** To who asked a supervisor that is gone. */
  const answerFor = (request: GenerateRequest, answer: Answer) =>
    Effect.sync(() => {
      if (request.answerTo === null) return
      connection.publish(request.answerTo, answered(request, answer, connection.info?.max_payload).bytes)
    })

  /** Its first tokens were those of a model; no other can go on from them. */
  const placeOf = (request: GenerateRequest, { admitted, since }: Pick<Accepted, "admitted" | "since">) => {
    const { session, prompt, maxTokens, model } = request
    const reason = `it began with ${model}, and the deployment has ${deployment.base.model} now`
    return Place.of({
      ...{ tokenizer: base.tokenizer, suspects },
      take:
        model === deployment.base.model
          ? replicas.take({ since, told: tell(session), prompt, tokens: prompt.length + maxTokens, admitted })
          : Effect.fail(new ActivationFailed({ deployment: deployment.name, reason })),
    })
  }

  const run = Effect.fnUntraced(function* (request: GenerateRequest) {
    const { session, prompt } = request
    const begun = accepted.get(session)
    accepted.delete(session)
    const { admitted, since, headers } = begun ?? (yield* takeOver(request))
    return yield* generate(request).pipe(
      Effect.provideService(Cancellation, endings),
      Effect.provideService(Admitted, admitted),
      Effect.provideService(Place, placeOf(request, { admitted, since })),
      tracedAs("session", headers, { session, deployment: deployment.name, promptTokens: prompt.length }),
      Effect.tapError((error) => Effect.logError(`session ${session}: ${error.message}`)),
      Effect.tap((answer) => (begun === undefined ? answerFor(request, answer) : Effect.void)),
      Effect.onExit((exit) =>
        begun === undefined ? Effect.void : Deferred.done(begun.answer, Exit.hasInterrupts(exit) ? GONE : exit),
      ),
      Effect.ensuring(
        Effect.andThen(
          Effect.sync(() => endings.close(session)),
          admission.end(session),
        ),
      ),
    )
  })

  const engine = yield* Layer.build(
    Generate.toLayer(run).pipe(Layer.provideMerge(durable({ namespace: deployment.name }))),
  )
  const executions = Context.get(engine, Executions)

  /** Another supervisor has it, and had it before it began to run here. */
  const giveBack = (session: string) =>
    Effect.suspend(() => {
      const lost = accepted.get(session)
      if (lost === undefined) return Effect.void
      accepted.delete(session)
      endings.close(session)
      return Effect.andThen(admission.end(session), Deferred.done(lost.answer, GONE))
    })

  const scope = yield* Effect.scope
  const service: Sessions = {
    accept: Effect.fnUntraced(function* (request, of) {
      const { session } = request
      const answer = yield* Deferred.make<Answer | null, GenerateError>()
      const id = yield* Generate.executionId(request)
      accepted.set(session, { ...of, answer })
      yield* Effect.provide(Generate.execute(request, { discard: true }), engine)
      yield* Effect.forkIn(Effect.andThen(executions.left(id), giveBack(session)), scope)
      return Deferred.await(answer)
    }),
    idle: executions.idle,
  }
  return service
})

const GONE = Exit.succeed(null)

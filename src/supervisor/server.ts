// The supervisor at work: answers requests with a session at once, or with the whole answer when it is there, runs each as
// a workflow, and ends those that are cancelled, late, or read by nobody. What a session says is in its log.
import { randomUUID } from "node:crypto"
import { Effect, Exit, Fiber, FiberMap, Scope, Semaphore, Stream, SubscriptionRef } from "effect"
import { Nats } from "../fabric/nats.ts"
import { type Reply, register } from "../fabric/services.ts"
import { type Carrying, tracedAs } from "../fabric/telemetry.ts"
import { TokenLog } from "../fabric/tokenLog.ts"
import type { Traces } from "../fabric/traces.ts"
import type { Model } from "../model/index.ts"
import { codec } from "../wire/codec.ts"
import type { Deployment } from "../wire/deployment.ts"
import { AnswerTooLarge, type InferError, SessionFailed } from "../wire/errors.ts"
import { type Answer, InferAnswer, InferRequest, type LogEntry, SessionProgress } from "../wire/infer.ts"
import { documentOf } from "../wire/jsonSchema.ts"
import { subjectsOf } from "../wire/subjects.ts"
import type { GenerateError } from "../workflow/errors.ts"
import { generate } from "../workflow/generate.ts"
import { Admitted, Cancellation, Place } from "../workflow/generation.ts"
import { Endings } from "./endings.ts"
import { admissionOf } from "./limits.ts"
import { ReplicaSet } from "./replicaSet.ts"
import { generateRequest } from "./request.ts"

const answers = codec("infer answer", InferAnswer)
const progresses = codec("session progress", SessionProgress)

/** What a prompt that fits the context may take: a token is 5 bytes as a number, and rarely more than 16 as text. */
const BYTES_OF_TOKEN = 16
const LEAST_BYTES = 64 * 1024

const QUEUE = "supervisors"

/** How long sessions have to say goodbye when the supervisor ends. */
const FAREWELL_MILLIS = 3_000

export interface Serving {
  /** Takes no more requests, and ends when the sessions that run have. */
  readonly retire: Effect.Effect<void>
}

/** Serves until the scope closes; then the sessions that run are cancelled. */
export const serve = Effect.fnUntraced(function* (deployment: Deployment, base: Model) {
  const { connection, connected } = yield* Nats
  const log = yield* TokenLog
  const replicas = yield* ReplicaSet
  const mostBytes = LEAST_BYTES + BYTES_OF_TOKEN * deployment.context
  const requests = codec("infer request", InferRequest, { mostBytes })
  const subjects = subjectsOf(deployment.name)
  const running = yield* FiberMap.make<string, Answer, GenerateError>()
  const fork = yield* FiberMap.runtime(running)<TokenLog | Traces>()
  const endings = new Endings(() => SubscriptionRef.getUnsafe(connected))
  const admission = yield* admissionOf(deployment)
  const suspects = Semaphore.makeUnsafe(1)

  const begin = Effect.fnUntraced(function* (message: Uint8Array, headers: Carrying | undefined) {
    const since = performance.now()
    const asked = yield* Effect.fromResult(requests.decode(message))
    const session = randomUUID()
    const request = yield* generateRequest(asked, session, { deployment, base })
    const { promptTokens, seed } = { promptTokens: request.prompt.length, seed: request.sampling.seed }
    const failed = ({ message }: Error) => new SessionFailed({ session, reason: message })
    const { interestMillis } = asked
    const beginning: LogEntry = {
      ...{ _tag: "Begin", epoch: request.epoch, at: 0, promptTokens, seed },
      ...(interestMillis === undefined ? {} : { interestMillis }),
    }
    const admitted = yield* admission.ask({
      ...{ session, client: asked.client ?? null, prompt: promptTokens, maxTokens: request.maxTokens },
    })
    yield* replicas.admit.pipe(Effect.onExit((exit) => (Exit.isSuccess(exit) ? Effect.void : admission.end(session))))
    endings.open(session, asked)
    const close = Effect.andThen(
      Effect.sync(() => endings.close(session)),
      admission.end(session),
    )
    // Whoever is told of a session finds it in the log.
    const after = yield* log.append(session, beginning, 0).pipe(
      Effect.mapError(failed),
      Effect.onExit((exit) => (exit._tag === "Failure" ? close : Effect.void)),
    )
    const generation = fork(
      session,
      generate({ ...request, after }).pipe(
        Effect.provideService(Cancellation, endings),
        Effect.provideService(Admitted, admitted),
        Effect.provideService(Place, {
          ...{ tokenizer: base.tokenizer, suspects },
          take: replicas.take({ since, told: tell(session), tokens: promptTokens + request.maxTokens, admitted }),
        }),
        tracedAs("session", headers, { session, deployment: deployment.name, promptTokens }),
        Effect.tapError((error) => Effect.logError(`session ${session}: ${error.message}`)),
        Effect.ensuring(close),
      ),
    )
    if (asked.stream === true) {
      return { _tag: "Accepted", session, subject: subjects.tokens(session), promptTokens, seed } satisfies InferAnswer
    }
    const answer = yield* Effect.mapError(Fiber.join(generation), failed)
    return { _tag: "Answered", session, promptTokens, seed, ...answer } satisfies InferAnswer
  })

  /** Told to whoever listens. */
  const tell = (session: string) => (fraction: number) =>
    connection.publish(subjects.progress(session), progresses.encode({ _tag: "Activating", fraction }))

  const answerTo = (message: Uint8Array, headers: Carrying | undefined): Effect.Effect<Reply> =>
    begin(message, headers).pipe(
      Effect.flatMap((answer) => encoded(answer, connection.info?.max_payload ?? Number.POSITIVE_INFINITY)),
      Effect.catch((error) => Effect.succeed(refusal(error))),
      Effect.catchDefect((defect) =>
        Effect.as(
          Effect.logError(defect),
          refusal(new SessionFailed({ session: "", reason: `internal error: ${String(defect)}` })),
        ),
      ),
    )

  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      endings.cancelAll()
      return FiberMap.awaitEmpty(running).pipe(Effect.timeoutOption(FAREWELL_MILLIS), Effect.ignore)
    }),
  )
  yield* SubscriptionRef.changes(connected).pipe(
    Stream.filter((up) => up),
    Stream.runForEach(() => Effect.sync(() => endings.renewAll())),
    Effect.forkScoped,
  )
  yield* hear(subjects.cancel("*"), (session) => endings.cancel(session))
  yield* hear(subjects.interest("*"), (session) => endings.renew(session))
  const runPromise = Effect.runPromiseWith(yield* Effect.context())
  const answering = new Set<Promise<Reply>>() // those that are accepted are in `running`
  const entrance = yield* Scope.fork(yield* Effect.scope)
  yield* register({
    name: "chorus-infer",
    description: `generations of ${deployment.name}`,
    metadata: metadataOf(deployment, base),
    endpoint: "infer",
    endpointMetadata: {
      format: "msgpack",
      request_schema: documentOf(InferRequest),
      response_schema: documentOf(InferAnswer),
    },
    subject: subjects.infer,
    queue: QUEUE,
    answer: (message, headers) => {
      const answer = runPromise(answerTo(message, headers))
      answering.add(answer)
      return answer.finally(() => answering.delete(answer))
    },
  }).pipe(Scope.provide(entrance))
  const serving: Serving = {
    retire: Effect.gen(function* () {
      yield* Scope.close(entrance, Exit.void)
      yield* Effect.promise(() => Promise.allSettled(answering))
      yield* Effect.ignore(FiberMap.awaitEmpty(running))
    }),
  }
  return serving
})

/** Calls with the session that a message's subject ends with. What is in the message is of no account. */
const hear = Effect.fnUntraced(function* (subject: string, heard: (session: string) => void) {
  const { connection } = yield* Nats
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      connection.subscribe(subject, {
        callback: (error, { subject }) => (error === null ? heard(subject.split(".").at(-1) ?? "") : undefined),
      }),
    ),
    (subscription) => Effect.sync(() => subscription.unsubscribe()),
  )
})

const encoded = (answer: Exclude<InferAnswer, { _tag: "Refused" }>, limit: number) => {
  const bytes = answers.encode(answer)
  const { session } = answer
  return bytes.byteLength <= limit
    ? Effect.succeed<Reply>({ bytes })
    : Effect.fail(new AnswerTooLarge({ session, bytes: bytes.byteLength, limit }))
}

const refusal = (error: InferError): Reply => ({
  bytes: answers.encode({ _tag: "Refused", error }),
  refused: { code: CODES[error._tag] ?? 500, reason: error._tag },
})

/** HTTP's codes, as the services protocol has them: 500 for what is not the asker's affair. */
const CODES: Readonly<Record<string, number>> = {
  ...{ MalformedMessage: 400, InvalidRequest: 400, ContextExceeded: 400, AnswerTooLarge: 413 },
  ...{
    Overloaded: 429,
    ClientLimited: 429,
    Cancelled: 499,
    GroupSilent: 503,
    NoPlacement: 503,
    ActivationFailed: 503,
    UnknownDeployment: 404,
  },
}

const metadataOf = ({ name, base, draft, fuzzy, deterministic, context }: Deployment, model: Model) => ({
  deployment: name,
  model: model.name,
  base: `${base.strategy} x ${base.ranks}`,
  draft: draft === null ? "none" : `${draft.strategy} x ${draft.ranks}`,
  fuzzy: `${fuzzy}`,
  deterministic: `${deterministic}`,
  context: `${context}`,
  pid: `${process.pid}`,
})

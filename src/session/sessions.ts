// The sessions of one deployment that this supervisor owns: those that it has accepted, and those that it has taken over
// from one that is gone. What a session says is in its log; a client that waits for the whole answer gets it from here.
import { Context, Deferred, Effect, Exit, Layer, Schedule, Semaphore } from "effect"
import { WorkflowEngine } from "effect/workflow"
import { Bus, type Headers } from "../bus/bus.ts"
import { loggedAs, tracedAs } from "../bus/telemetry.ts"
import { layer as durable, Executions } from "../durable/engine.ts"
import { Ownership } from "../durable/ownership.ts"
import type { GenerateError } from "../generation/errors.ts"
import { endAsFailed, executionOf, Generate, generate } from "../generation/generate.ts"
import { beginningOf } from "../generation/history.ts"
import { type GenerateRequest, kvOf } from "../generation/request.ts"
import { Admitted, Cancellation, SessionPlace } from "../generation/services.ts"
import type { Model } from "../model/index.ts"
import { ReplicaSet } from "../replica/replicaSet.ts"
import { Storage } from "../store/storage.ts"
import { keepUpTokens, TokenLog } from "../store/tokenLog.ts"
import { codec } from "../wire/codec.ts"
import type { Deployment } from "../wire/deployment.ts"
import { ActivationFailed, StorageRefused } from "../wire/errors.ts"
import { type Answer, SessionProgress } from "../wire/infer.ts"
import { subjectsOf } from "../wire/subjects.ts"
import type { AdmissionQueue } from "./admissionQueue.ts"
import { answered } from "./answers.ts"
import type { Lifetimes } from "./lifetime.ts"

const progresses = codec("session progress", SessionProgress)

/** How long a storage may refuse while a session waits for its ranks. */
const STUCK_MILLIS = 10_000
const STUCK_LOOK_MILLIS = 500

/** Between two tries to end the log of a session that its storage has ended, and how many of them. */
const END_AGAIN_MILLIS = 1_000
const END_TIMES = 3_600

/** A session that was accepted here, for the workflow that begins with it. */
interface Accepted {
  readonly admitted: Admitted["Service"]
  readonly since: number // by performance's clock
  readonly headers: Headers | undefined
  readonly answer: Deferred.Deferred<Answer | null, GenerateError> // null: another supervisor goes on with it
}

export interface Sessions {
  /** Ends when the session is sure to go on, whatever happens here. Gives what ends with its answer. */
  readonly accept: (
    request: GenerateRequest,
    of: Pick<Accepted, "admitted" | "since" | "headers">,
  ) => Effect.Effect<Effect.Effect<Answer | null, GenerateError>, StorageRefused>
  /** Ends when all sessions have. */
  readonly idle: Effect.Effect<void>
  /** Why a session has ended without an end in its log: what readers are told meanwhile. */
  readonly unended: (session: string) => StorageRefused | undefined
}

export interface SessionsOptions {
  readonly deployment: Deployment
  readonly base: Model
  readonly admission: AdmissionQueue
  readonly lifetimes: Lifetimes
}

/** Runs them until the scope closes: then those that still run are another supervisor's. */
export const sessions = Effect.fnUntraced(function* ({ deployment, base, admission, lifetimes }: SessionsOptions) {
  const { publish, maxPayload } = yield* Bus
  const { health } = yield* Storage
  const replicas = yield* ReplicaSet
  const log = yield* TokenLog
  const subjects = subjectsOf(deployment.name)
  const accepted = new Map<string, Accepted>()
  const running = new Map<string, GenerateRequest>()
  const unended = new Map<string, StorageRefused>()
  const scope = yield* Effect.scope
  const suspects = Semaphore.makeUnsafe(1)

  /** Published for current listeners. */
  const tell = (session: string) => (fraction: number) =>
    publish(subjects.progress(session), progresses.encode({ _tag: "Activating", fraction }))

  const takeOver = Effect.fnUntraced(function* (request: GenerateRequest) {
    const { session, client, prompt, maxTokens } = request
    const { epoch } = yield* Ownership
    for (let former = 1; former < epoch; former++) yield* replicas.free(kvOf(session, former))
    const age = log.age(session).pipe(Effect.catch(() => Effect.succeed(0))) // unknown: it has all its time again
    lifetimes.open(session, request, request.deadlineMillis === null ? 0 : yield* age)
    const admitted = yield* admission.takeOver({ session, client, prompt: prompt.length, maxTokens })
    return { admitted, since: performance.now(), headers: undefined }
  })

  /** To a client that asked a supervisor that is gone. */
  const answerFor = (request: GenerateRequest, answer: Answer) =>
    Effect.sync(() => {
      if (request.answerTo === null) return
      publish(request.answerTo, answered(request, answer, maxPayload()).bytes)
    })

  /** Where a storage refuses for long, no ranks are started for sessions that wait, and no token of theirs would be taken. */
  const stuck = Effect.gen(function* () {
    for (let since = performance.now(); ; yield* Effect.sleep(STUCK_LOOK_MILLIS)) {
      const now = performance.now()
      const reason = health.reason(now)
      if (reason === "") since = now
      else if (now - since > STUCK_MILLIS) return yield* new ActivationFailed({ deployment: deployment.name, reason })
    }
  })

  /** Its first tokens were those of a model; no other can go on from them. */
  const placeOf = (request: GenerateRequest, { admitted, since }: Pick<Accepted, "admitted" | "since">) => {
    const { session, prompt, maxTokens, model } = request
    const reason = `it began with ${model}, and the deployment has ${deployment.base.model} now`
    return SessionPlace.of({
      ...{ tokenizer: base.tokenizer, suspects },
      take:
        model === deployment.base.model
          ? Effect.raceFirst(
              replicas.take({ since, told: tell(session), prompt, tokens: prompt.length + maxTokens, admitted }),
              stuck,
            )
          : Effect.fail(new ActivationFailed({ deployment: deployment.name, reason })),
    })
  }

  const run = Effect.fnUntraced(function* (request: GenerateRequest) {
    const { session, prompt } = request
    const begun = accepted.get(session)
    accepted.delete(session)
    running.set(session, request)
    const { admitted, since, headers } = begun ?? (yield* takeOver(request))
    return yield* generate(request).pipe(
      Effect.provideService(Cancellation, lifetimes),
      Effect.provideService(Admitted, admitted),
      Effect.provideService(SessionPlace, placeOf(request, { admitted, since })),
      tracedAs("session", headers, { session, deployment: deployment.name, promptTokens: prompt.length }),
      Effect.tapError((error) => Effect.logError(`session ${session}: ${error.message}`)),
      Effect.tapError((error) => leaveUnended(request, error)),
      Effect.tap(({ finishReason, error }) =>
        finishReason === "failed" ? Effect.logWarning(`session ${session} failed: ${error}`) : Effect.void,
      ),
      loggedAs(headers),
      Effect.tap((answer) => (begun === undefined ? answerFor(request, answer) : Effect.void)),
      Effect.onExit((exit) =>
        begun === undefined ? Effect.void : Deferred.done(begun.answer, Exit.hasInterrupts(exit) ? GONE : exit),
      ),
      Effect.ensuring(
        Effect.andThen(
          Effect.sync(() => {
            lifetimes.close(session)
            running.delete(session)
          }),
          admission.end(session),
        ),
      ),
    )
  })

  /** Its readers are told as they ask, and its log when it takes that. */
  const leaveUnended = Effect.fnUntraced(function* (request: GenerateRequest, error: GenerateError) {
    if (error._tag !== "LogFailed" || error.refused === undefined) return
    const { session } = request
    const { epoch } = yield* Ownership
    unended.set(session, error.refused)
    const end = Effect.retry(endAsFailed(request, epoch, error.message), {
      ...{ schedule: Schedule.spaced(END_AGAIN_MILLIS), times: END_TIMES },
      while: ({ _tag }) => _tag === "LogFailed" || _tag === "LogMoved",
    })
    yield* Effect.forkIn(
      Effect.ensuring(
        Effect.ignore(Effect.provideService(end, TokenLog, log)),
        Effect.sync(() => unended.delete(session)),
      ),
      scope,
    )
  })

  /** The stream of logs is another one, and empty. Each session says there that it is; what it has said it says again. */
  const beginAgain = Effect.suspend(() =>
    Effect.forEach(
      [...running.values()],
      (request) => Effect.ignore(log.append(request.session, beginningOf(request), 0)),
      { concurrency: "unbounded", discard: true },
    ),
  )

  const engine = yield* Layer.build(
    Generate.toLayer(run).pipe(Layer.provideMerge(durable({ namespace: deployment.name }))),
  )
  const executions = Context.get(engine, Executions)
  const workflows = Context.get(engine, WorkflowEngine.WorkflowEngine)

  /** Another supervisor has it, and had it before it began to run here. */
  const giveBack = (session: string) =>
    Effect.suspend(() => {
      const lost = accepted.get(session)
      if (lost === undefined) return Effect.void
      accepted.delete(session)
      lifetimes.close(session)
      return Effect.andThen(admission.end(session), Deferred.done(lost.answer, GONE))
    })

  yield* keepUpTokens(deployment, beginAgain)
  const service: Sessions = {
    accept: Effect.fnUntraced(function* (request, of) {
      const { session } = request
      const answer = yield* Deferred.make<Answer | null, GenerateError>()
      const id = executionOf(session)
      accepted.set(session, { ...of, answer })
      yield* Effect.orDie(workflows.execute(Generate, { executionId: id, payload: request, discard: true })).pipe(
        Effect.catchDefect((defect) => (defect instanceof StorageRefused ? Effect.fail(defect) : Effect.die(defect))),
        Effect.tapError(() => giveBack(session)),
      )
      yield* Effect.forkIn(Effect.andThen(executions.left(id), giveBack(session)), scope)
      return Deferred.await(answer)
    }),
    idle: executions.idle,
    unended: (session) => unended.get(session),
  }
  return service
})

const GONE = Exit.succeed(null)

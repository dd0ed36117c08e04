// The supervisor at work: answers requests at once with a session, runs each as a workflow, and ends those that are
// cancelled. What a session says afterwards is in its log.
import { randomUUID } from "node:crypto"
import { Deferred, Effect, Exit, FiberMap, Scope } from "effect"
import { Nats } from "../fabric/nats.ts"
import { register } from "../fabric/services.ts"
import type { TokenLog } from "../fabric/tokenLog.ts"
import type { Model } from "../model/index.ts"
import { codec } from "../wire/codec.ts"
import type { Deployment } from "../wire/deployment.ts"
import { Cancelled, type InferError } from "../wire/errors.ts"
import { InferAnswer, InferRequest, SessionProgress } from "../wire/infer.ts"
import { subjectsOf } from "../wire/subjects.ts"
import { generate } from "../workflow/generate.ts"
import { Cancellation, Place } from "../workflow/generation.ts"
import { ReplicaSet } from "./replicaSet.ts"
import { generateRequest } from "./request.ts"

const requests = codec("infer request", InferRequest)
const answers = codec("infer answer", InferAnswer)
const progresses = codec("session progress", SessionProgress)

const QUEUE = "supervisors"

/** How long sessions have to say goodbye when the supervisor ends. */
const FAREWELL_MILLIS = 3_000

export interface Serving {
  /** Takes no more requests, and ends when the sessions that run have. */
  readonly retire: Effect.Effect<void>
}

/** Serves until the scope closes; then the sessions that run are cancelled. */
export const serve = Effect.fnUntraced(function* (deployment: Deployment, base: Model) {
  const { connection } = yield* Nats
  const replicas = yield* ReplicaSet
  const subjects = subjectsOf(deployment.name)
  const running = yield* FiberMap.make<string, void>()
  const fork = yield* FiberMap.runtime(running)<TokenLog>()
  const cancels = new Map<string, Deferred.Deferred<never, Cancelled>>()

  const begin = Effect.fnUntraced(function* (message: Uint8Array) {
    const asked = yield* Effect.fromResult(requests.decode(message))
    const session = randomUUID()
    const request = yield* generateRequest(asked, session, { deployment, base })
    yield* replicas.admit
    const cancel = yield* Deferred.make<never, Cancelled>()
    cancels.set(session, cancel)
    const cancellation = { of: () => Deferred.await(cancel) }
    fork(
      session,
      generate(request).pipe(
        Effect.provideService(Cancellation, cancellation),
        Effect.provideService(Place, { tokenizer: base.tokenizer, take: replicas.take(tell(session)) }),
        Effect.catch((error) => Effect.logError(`session ${session}: ${error.message}`)),
        Effect.ensuring(Effect.sync(() => cancels.delete(session))),
      ),
    )
    const accepted: InferAnswer = {
      _tag: "Accepted",
      session,
      subject: subjects.tokens(session),
      promptTokens: request.prompt.length,
      seed: request.sampling.seed,
    }
    return accepted
  })

  /** Told to whoever listens. */
  const tell = (session: string) => (fraction: number) =>
    connection.publish(subjects.progress(session), progresses.encode({ _tag: "Activating", fraction }))

  const cancel = (session: string): void => {
    const waiting = cancels.get(session)
    if (waiting !== undefined) Deferred.doneUnsafe(waiting, Effect.fail(new Cancelled({ session })))
  }
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      for (const session of cancels.keys()) cancel(session)
      return FiberMap.awaitEmpty(running).pipe(Effect.timeoutOption(FAREWELL_MILLIS), Effect.ignore)
    }),
  )
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      connection.subscribe(subjects.cancel("*"), {
        callback: (error, { subject }) => (error === null ? cancel(subject.split(".").at(-1) ?? "") : undefined),
      }),
    ),
    (subscription) => Effect.sync(() => subscription.unsubscribe()),
  )
  const runPromise = Effect.runPromiseWith(yield* Effect.context())
  const answering = new Set<Promise<Uint8Array>>() // those that are accepted are in `running`
  const entrance = yield* Scope.fork(yield* Effect.scope)
  yield* register({
    name: "chorus-infer",
    description: `generations of ${deployment.name}`,
    metadata: metadataOf(deployment, base),
    endpoint: "infer",
    subject: subjects.infer,
    queue: QUEUE,
    answer: (message) => {
      const answer = runPromise(
        begin(message).pipe(
          Effect.catch((error: InferError) => Effect.succeed<InferAnswer>({ _tag: "Refused", error })),
          Effect.map(answers.encode),
        ),
      )
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

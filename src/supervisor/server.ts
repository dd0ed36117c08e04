// The supervisor at work: answers requests at once with a session, runs each as a workflow, and ends those that are
// cancelled. What a session says afterwards is in its log.
import { randomUUID } from "node:crypto"
import { Deferred, Effect, FiberMap } from "effect"
import { Nats } from "../fabric/nats.ts"
import { register } from "../fabric/services.ts"
import type { TokenLog } from "../fabric/tokenLog.ts"
import type { Model } from "../model/index.ts"
import { codec } from "../wire/codec.ts"
import type { Deployment } from "../wire/deployment.ts"
import { Cancelled, type InferError } from "../wire/errors.ts"
import { InferAnswer, InferRequest } from "../wire/infer.ts"
import { subjectsOf } from "../wire/subjects.ts"
import { generate } from "../workflow/generate.ts"
import { Admitted, Cancellation, type Models } from "../workflow/generation.ts"
import { admissionOf } from "./limits.ts"
import { generateRequest } from "./request.ts"

const requests = codec("infer request", InferRequest)
const answers = codec("infer answer", InferAnswer)

const QUEUE = "supervisors"

/** How long sessions have to say goodbye when the supervisor ends. */
const FAREWELL_MILLIS = 3_000

/** Serves until the scope closes; then the sessions that run are cancelled. */
export const serve = Effect.fnUntraced(function* (deployment: Deployment, base: Model) {
  const { connection } = yield* Nats
  const subjects = subjectsOf(deployment.name)
  const running = yield* FiberMap.make<string, void>()
  const fork = yield* FiberMap.runtime(running)<Models | TokenLog>()
  const admission = yield* admissionOf(deployment)
  const cancels = new Map<string, Deferred.Deferred<never, Cancelled>>()

  const begin = Effect.fnUntraced(function* (message: Uint8Array) {
    const asked = yield* Effect.fromResult(requests.decode(message))
    const session = randomUUID()
    const request = yield* generateRequest(asked, session, { deployment, base })
    const { length } = request.prompt
    const admitted = yield* admission.ask({
      ...{ session, client: asked.client ?? null, prompt: length, maxTokens: request.maxTokens },
    })
    const cancel = yield* Deferred.make<never, Cancelled>()
    cancels.set(session, cancel)
    const cancellation = { of: () => Deferred.await(cancel) }
    fork(
      session,
      generate(request).pipe(
        Effect.provideService(Cancellation, cancellation),
        Effect.provideService(Admitted, admitted),
        Effect.catch((error) => Effect.logError(`session ${session}: ${error.message}`)),
        Effect.ensuring(Effect.sync(() => cancels.delete(session))),
        Effect.ensuring(admission.end(session)),
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
  yield* register({
    name: "chorus-infer",
    description: `generations of ${deployment.name}`,
    metadata: metadataOf(deployment, base),
    endpoint: "infer",
    subject: subjects.infer,
    queue: QUEUE,
    answer: (message) =>
      runPromise(
        begin(message).pipe(
          Effect.catch((error: InferError) => Effect.succeed<InferAnswer>({ _tag: "Refused", error })),
          Effect.map(answers.encode),
        ),
      ),
  })
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

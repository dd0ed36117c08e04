// The supervisor at work: answers requests with a session at once, or with the whole answer when it is there, runs each as
// a workflow, and ends those that are cancelled, late, or unread. What a session says is in its log.
import { randomUUID } from "node:crypto"
import { Effect, Exit, Scope, Stream, SubscriptionRef } from "effect"
import { Bus, type Headers, type Reply } from "../bus/bus.ts"
import { changes } from "../bus/changes.ts"
import { loggedAs } from "../bus/telemetry.ts"
import { VERSION } from "../bus/version.ts"
import { beginningOf } from "../generation/history.ts"
import { digestOf, type Model } from "../model/index.ts"
import { ReplicaSet } from "../replica/replicaSet.ts"
import { TokenLog } from "../store/tokenLog.ts"
import { codec } from "../wire/codec.ts"
import type { Deployment } from "../wire/deployment.ts"
import { SessionFailed } from "../wire/errors.ts"
import { InferAnswer, InferRequest } from "../wire/infer.ts"
import { documentOf } from "../wire/jsonSchema.ts"
import { isInbox, subjectsOf } from "../wire/subjects.ts"
import { accepted, answered, failureOf, notRead, refusal } from "./answers.ts"
import { admissionOf } from "./capacity.ts"
import type { Encoder } from "./encoder.ts"
import { Lifetimes, timers } from "./lifetime.ts"
import { generateRequest } from "./request.ts"
import { sessions } from "./sessions.ts"

/** What a prompt that fits the context may take: a token is 5 bytes as a number, and rarely more than 16 as text. */
const BYTES_OF_TOKEN = 16
const LEAST_BYTES = 64 * 1024

const QUEUE = "supervisors"

/** How long a drain waits for sessions to end before other supervisors go on with them, and for the rest to write their end. */
const DRAIN_MILLIS = 5_000
const FAREWELL_MILLIS = 3_000

export interface Serving {
  /** Takes no more requests, and ends when the sessions that run have, or have to go on elsewhere. */
  readonly retire: Effect.Effect<void>
}

export interface ServeOptions {
  readonly deployment: Deployment
  readonly base: Model
  readonly encoder: Encoder
  /** Whether there may be another supervisor of the deployment after this one. */
  readonly succeeded: () => boolean
}

/**
 * Serves until the scope closes. The sessions that still run then have a while to end; after that they are another
 * supervisor's; where there will be none, they fail.
 */
export const serve = Effect.fnUntraced(function* ({ deployment, base, encoder, succeeded }: ServeOptions) {
  const { publish, subscribe, register, maxPayload, connected } = yield* Bus
  const log = yield* TokenLog
  const replicas = yield* ReplicaSet
  const mostBytes = LEAST_BYTES + BYTES_OF_TOKEN * deployment.context
  const requests = codec("infer request", InferRequest, { mostBytes })
  const subjects = subjectsOf(deployment.name)
  const lifetimes = new Lifetimes(() => SubscriptionRef.getUnsafe(connected), yield* timers)
  const admission = yield* admissionOf(deployment)
  const { accept, idle: ended, unended } = yield* sessions({ deployment, base, admission, lifetimes })

  /** Ends when the session is sure to go on, or is refused; gives what ends with the answer. */
  const begin = Effect.fnUntraced(function* (message: Uint8Array, headers?: Headers, replyTo?: string) {
    const since = performance.now()
    const asked = yield* Effect.fromResult(requests.decode(message))
    const session = randomUUID()
    const wanted = yield* generateRequest(asked, session, { deployment, base, encoder })
    const failed = failureOf(session)
    const admitted = yield* admission.ask({
      ...{ session, client: wanted.client, prompt: wanted.prompt.length, maxTokens: wanted.maxTokens },
    })
    const unlessBegun = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.onExit(effect, (exit) => (Exit.isSuccess(exit) ? Effect.void : admission.end(session)))
    yield* unlessBegun(replicas.admit)
    // A client that is told of a session finds it in the log.
    const after = yield* unlessBegun(
      Effect.mapError(log.append(session, beginningOf(wanted), 0, { hurried: true }), failed),
    )
    const stream = asked.stream === true
    const request = { ...wanted, after, answerTo: stream ? null : (replyTo ?? null) }
    lifetimes.open(session, request, 0)
    const answer = yield* unlessBegun(accept(request, { admitted, since, headers }))
    yield* Effect.logDebug(`session ${session} begins`)
    if (stream) return Effect.succeed<Reply | null>(accepted(request, subjects.tokens(session)))
    return Effect.match(answer, {
      onSuccess: (whole) => (whole === null ? null : answered(request, whole, maxPayload())),
      onFailure: (error) => refusal(failed(error)),
    })
  })

  const beginOrRefuse = (...asked: Parameters<typeof begin>) =>
    begin(...asked).pipe(
      Effect.catch((error) => Effect.succeed(Effect.succeed<Reply | null>(refusal(error)))),
      Effect.catchDefect((defect) => {
        const error = new SessionFailed({ session: "", reason: `internal error: ${String(defect)}` })
        return Effect.as(Effect.logError(defect), Effect.succeed<Reply | null>(refusal(error)))
      }),
      loggedAs(asked[1]),
    )

  yield* SubscriptionRef.changes(connected).pipe(
    Stream.filter((up) => up),
    Stream.runForEach(() => Effect.sync(() => lifetimes.renewAll())),
    Effect.forkScoped,
  )
  yield* subscribe(subjects.cancel("*"), ({ subject }) => lifetimes.cancel(sessionOf(subject)))
  yield* subscribe(subjects.interest("*"), ({ subject, reply = "" }) => {
    lifetimes.renew(sessionOf(subject))
    const refused = isInbox(reply) ? unended(sessionOf(subject)) : undefined
    if (refused !== undefined) publish(reply, notRead(refused))
  })
  let beginning = 0
  const begun = changes()
  const entrance = yield* Scope.fork(yield* Effect.scope)
  /** A request that has come by now is among the sessions that run when this ends. */
  const close = Effect.andThen(
    Scope.close(entrance, Exit.void),
    begun.until(() => beginning === 0),
  )
  yield* register({
    name: "chorus-infer",
    description: `generations of ${deployment.name}`,
    metadata: metadataOf(deployment, base, yield* weightsOf(base)),
    endpoint: "infer",
    endpointMetadata: {
      format: "msgpack",
      request_schema: documentOf(InferRequest),
      response_schema: documentOf(InferAnswer),
    },
    subject: subjects.infer,
    queue: QUEUE,
    answer: (...asked) =>
      Effect.suspend(() => {
        beginning += 1
        const ended = Effect.sync(() => {
          beginning -= 1
          begun.tell()
        })
        return Effect.flatten(Effect.ensuring(beginOrRefuse(...asked), ended))
      }),
  }).pipe(Scope.provide(entrance))
  /** Nothing more comes of waiting. */
  const idle = Effect.raceFirst(ended, replicas.over)
  const idleWithin = (millis: number) => Effect.ignore(Effect.timeoutOption(idle, millis))
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      yield* close
      if (succeeded()) return yield* idleWithin(DRAIN_MILLIS)
      lifetimes.endAll()
      yield* idleWithin(FAREWELL_MILLIS)
    }),
  )
  const serving: Serving = { retire: Effect.andThen(close, idle) }
  return serving
})

/** A subject of controls ends with the session. What is in the message is of no account. */
const sessionOf = (subject: string): string => subject.split(".").at(-1) ?? ""

/** Files that have gone meanwhile are the ranks' to complain of. */
const weightsOf = (model: Model) =>
  Effect.orElseSucceed(
    Effect.try(() => digestOf(model)),
    () => "unknown",
  )

const metadataOf = (
  { name, base, draft, fuzzy, deterministic, context }: Deployment,
  model: Model,
  weights: string,
) => ({
  deployment: name,
  model: model.name,
  base: `${base.strategy} x ${base.ranks}`,
  draft: draft === null ? "none" : `${draft.strategy} x ${draft.ranks}`,
  fuzzy: `${fuzzy}`,
  deterministic: `${deterministic}`,
  chat: `${model.chatTemplate !== null}`,
  context: `${context}`,
  sampling: JSON.stringify(model.sampling), // its defaults
  version: VERSION,
  weights,
  pid: `${process.pid}`,
})

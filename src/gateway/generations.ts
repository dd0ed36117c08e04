// The generations of one request: a session for each choice, all of them or none. They end with the request, however it
// ends: an answer that nobody waits for any more is cancelled.
import { Effect, Stream } from "effect"
import type { Client, Ending, Generation, InferRequest, LoggedToken } from "../client/index.ts"
import { traceparent } from "../fabric/telemetry.ts"
import { Deployments } from "./deployments.ts"
import { type ApiError, apiError, fromClient } from "./errors.ts"
import { observe } from "./metrics.ts"
import { Options } from "./options.ts"

/** What happens to one choice: a token, or its end. */
export type ChoiceEvent =
  | { readonly _tag: "Token"; readonly choice: number; readonly token: LoggedToken }
  | {
      readonly _tag: "Ended"
      readonly choice: number
      readonly finishReason: "stop" | "length"
      readonly tokens: number
    }

export interface Generations {
  readonly session: string // of the first choice
  readonly promptTokens: ReadonlyArray<number> // of each choice
  /** All choices' events as they come; fails where a choice fails, and then all are cancelled. */
  readonly events: Stream.Stream<ChoiceEvent, ApiError>
}

/** Where the gateway itself goes without a word, its sessions end after so long. */
const INTEREST_MILLIS = 10_000

/** Accepted by the deployment when this ends. In the scope of the request. */
export const begin = Effect.fnUntraced(function* (model: string, requests: ReadonlyArray<InferRequest>) {
  const { requestMillis } = yield* Options
  const client = yield* (yield* Deployments).client(model)
  const started = performance.now()
  const bounds = { interestMillis: INTEREST_MILLIS, deadlineMillis: Math.ceil(requestMillis) }
  const sessions = yield* Effect.forEach(requests, (request) => accepted(client, { ...request, ...bounds }), {
    concurrency: "unbounded",
  })
  const events = sessions.map((session, choice) => eventsOf(session, choice, { model, started }))
  const begun: Generations = {
    session: sessions[0]?.generation.session ?? "",
    promptTokens: sessions.map(({ generation }) => generation.promptTokens),
    events: together(events).pipe(
      Stream.interruptWhen(Effect.andThen(Effect.sleep(requestMillis), tooSlow(requestMillis))),
    ),
  }
  return begun
})

/** A choice when it has ended. */
export interface Choice {
  readonly text: string
  readonly logged: ReadonlyArray<LoggedToken>
  readonly finishReason: "stop" | "length"
  readonly tokens: number
}

interface Open extends Omit<Choice, "text" | "logged"> {
  readonly logged: Array<LoggedToken>
}

/** Waits for all of it. */
export const collect = Effect.fnUntraced(function* ({ promptTokens, events }: Generations) {
  const choices = promptTokens.map((): Open => ({ logged: [], finishReason: "stop", tokens: 0 }))
  yield* Stream.runForEach(events, (event) =>
    Effect.sync(() => {
      const choice = choices[event.choice]
      if (event._tag === "Token") choice?.logged.push(event.token)
      else
        choices[event.choice] = { logged: choice?.logged ?? [], finishReason: event.finishReason, tokens: event.tokens }
    }),
  )
  return choices.map((choice): Choice => ({ ...choice, text: choice.logged.map(({ text }) => text).join("") }))
})

/** One choice, as most requests have, needs no queue between it and its reader. */
const together = (
  events: ReadonlyArray<Stream.Stream<ChoiceEvent, ApiError>>,
): Stream.Stream<ChoiceEvent, ApiError> => {
  const [only, ...others] = events
  return only !== undefined && others.length === 0 ? only : Stream.mergeAll(events, { concurrency: "unbounded" })
}

const tooSlow = (millis: number): ApiError =>
  apiError(
    504,
    "timeout",
    `the answer took longer than ${millis / 1000} s, this gateway's limit. Ask for fewer tokens.`,
  )

/** A session in the scope of its request: what has not ended by then is cancelled. */
export interface Session {
  readonly generation: Generation
  ended: boolean
}

export const accepted = Effect.fnUntraced(function* (client: Client, request: InferRequest) {
  const { signal } = yield* Effect.acquireRelease(
    Effect.sync(() => new AbortController()),
    (controller) => Effect.sync(() => controller.abort()), // of one that is accepted when nobody waits any more
  )
  const span = yield* traceparent
  const options = { signal, ...(span === undefined ? {} : { traceparent: span }) }
  const accepting = Effect.tryPromise({ try: () => client.generate(request, options), catch: fromClient })
  return yield* Effect.acquireRelease(
    Effect.map(accepting, (generation): Session => ({ generation, ended: false })),
    ({ generation, ended }) => Effect.sync(() => (ended ? undefined : generation.cancel())),
    { interruptible: true },
  )
})

interface Timing {
  readonly model: string
  readonly started: number // on performance's clock
}

const eventsOf = (
  session: Session,
  choice: number,
  { model, started }: Timing,
): Stream.Stream<ChoiceEvent, ApiError> => {
  const { generation } = session
  const nextToken = observe.nextTokens(model)
  let last = started
  const tokens = Stream.fromAsyncIterable(generation, fromClient).pipe(
    Stream.tap(() => {
      const now = performance.now()
      const observed = last === started ? observe.firstToken(model, now - started) : nextToken(now - last)
      last = now
      return observed
    }),
    Stream.map((token): ChoiceEvent => ({ _tag: "Token", choice, token })),
  )
  const ended = Effect.tryPromise({ try: () => generation.ending(), catch: fromClient }).pipe(
    Effect.tap((ending) => {
      session.ended = true
      return observe.ending(model, ending)
    }),
    Effect.flatMap((ending) => endOf(ending, choice)),
  )
  return Stream.concat(tokens, Stream.fromEffect(ended))
}

const endOf = ({ finishReason, error, tokens }: Ending, choice: number): Effect.Effect<ChoiceEvent, ApiError> => {
  if (finishReason === "stop" || finishReason === "length") {
    return Effect.succeed({ _tag: "Ended", choice, finishReason, tokens: tokens.length })
  }
  if (finishReason === "failed")
    return Effect.fail(apiError(503, "generation_failed", error, { retryAfterMillis: 1_000 }))
  if (finishReason === "deadline") return Effect.fail(apiError(504, "timeout", "the time for the answer was over"))
  return Effect.fail(apiError(499, "cancelled", "the session was cancelled"))
}

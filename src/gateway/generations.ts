// The generations of one request: a session for each choice, all of them or none. They end with the request, however it
// ends: an answer that is no longer waited for is cancelled, unless the client has said that it may come back.
import { Effect, Stream } from "effect"
import { traceparent } from "../bus/telemetry.ts"
import type { Client, Ending, EndToken, Generation, InferRequest, LoggedToken, PromptToken } from "../client/index.ts"
import { Deployments } from "./deployments.ts"
import { type ApiError, apiError, fromClient } from "./errors.ts"
import { fingerprintOf } from "./fingerprint.ts"
import { observe } from "./metrics.ts"
import { Options } from "./options.ts"
import { RequestId } from "./requestId.ts"
import { type Kind, resumptionOf, type StreamPosition } from "./resumption.ts"
import { NOTHING_USED, type Used } from "./usage.ts"

/** What happens to one choice: its prompt, where that is told, a token, or its end. */
export type ChoiceEvent =
  | { readonly _tag: "Prompt"; readonly choice: number; readonly tokens: ReadonlyArray<PromptToken> }
  | { readonly _tag: "Token"; readonly choice: number; readonly token: LoggedToken }
  | ({ readonly _tag: "Ended"; readonly choice: number } & End)

interface End extends Used {
  readonly finishReason: "stop" | "length"
  readonly endToken: EndToken | null // where log-probabilities are told
}

export interface Generations {
  readonly id: string // of the answer
  readonly place: StreamPosition // in its stream, from which on its reader wants it
  readonly resumable: boolean
  readonly promptTokens: ReadonlyArray<number> // of each choice
  /** For each object of the answer: empty until ranks are there for it. */
  readonly fingerprint: () => { readonly system_fingerprint?: string }
  /** All choices' events as they come; fails where a choice fails, and then all are cancelled. */
  readonly events: Stream.Stream<ChoiceEvent, ApiError>
}

/** Where the gateway itself goes without a word, its sessions end after so long. */
export const INTEREST_MILLIS = 10_000

/** Readers say that they read three times in the time that a session waits for them, so a third of it may be over already. */
const interestOf = (resumeMillis: number | null): number =>
  resumeMillis === null ? INTEREST_MILLIS : (resumeMillis * 3) / 2

/** What a body says of its answer, beside what the answer is to be. */
interface AnswerOptions {
  readonly model: string
  readonly stream?: boolean | null
}

/** Accepted by the deployment when this ends, or found where the request takes up a stream. In the scope of the request. */
export const open = Effect.fnUntraced(function* (
  kind: Kind,
  asked: AnswerOptions,
  requests: ReadonlyArray<InferRequest>,
) {
  const { from, resumable, millis } = yield* resumptionOf(kind, asked.stream === true, requests.length)
  const client = yield* (yield* Deployments).client(asked.model)
  const opening = { client, model: asked.model, resumable, resumeMillis: millis }
  return from === null ? yield* begin(opening, kind, requests) : yield* takeUp(opening, from)
})

interface Opening {
  readonly client: Client
  readonly model: string
  readonly resumable: boolean
  readonly resumeMillis: number | null
}

const begin = Effect.fnUntraced(function* (opening: Opening, kind: Kind, requests: ReadonlyArray<InferRequest>) {
  const { client, resumeMillis } = opening
  const { requestMillis } = yield* Options
  const started = performance.now()
  const bounds = { interestMillis: interestOf(resumeMillis), deadlineMillis: Math.ceil(requestMillis) }
  const sessions = yield* Effect.forEach(requests, (request) => accepted(client, { ...request, ...bounds }), {
    concurrency: "unbounded",
  })
  const place: StreamPosition = {
    ...{ kind, created: Math.floor(Date.now() / 1000) },
    choices: sessions.map(({ generation: { session } }) => ({ session, had: 0 })),
  }
  return yield* generationsOf(opening, { place, sessions, started })
})

/** From the beginning of their logs, of which the reader gets what it has not had. */
const takeUp = Effect.fnUntraced(function* (opening: Opening, place: StreamPosition) {
  const sessions = yield* Effect.forEach(place.choices, ({ session }) => found(opening.client, session), {
    concurrency: "unbounded",
  })
  return yield* generationsOf(opening, { place, sessions, started: null })
})

interface Opened {
  readonly place: StreamPosition
  readonly sessions: ReadonlyArray<OpenGeneration>
  readonly started: number | null // on performance's clock; null: another gateway has told some of it
}

const generationsOf = Effect.fnUntraced(function* (
  { model, resumable, resumeMillis }: Opening,
  { place, sessions, started }: Opened,
) {
  const { requestMillis } = yield* Options
  for (const session of sessions) session.settled = resumeMillis !== null
  const events = sessions.map((session, choice) => eventsOf(session, choice, { model, started }))
  const generations: Generations = {
    id: `${place.kind}-${place.choices[0]?.session ?? ""}`,
    ...{ place, resumable, fingerprint: yield* onceKnown(model) },
    promptTokens: sessions.map(({ generation }) => generation.promptTokens),
    events: together(events).pipe(
      Stream.interruptWhen(Effect.andThen(Effect.sleep(requestMillis), tooSlow(requestMillis))),
      Stream.tapError(() => Effect.sync(() => sessions.forEach(({ generation }) => generation.cancel()))),
    ),
  }
  return generations
})

/** It stays the same throughout an answer. */
const onceKnown = Effect.fnUntraced(function* (model: string) {
  const services = yield* Effect.context<Effect.Services<ReturnType<typeof fingerprintOf>>>()
  let known: string | null = null
  return () => {
    known ??= Effect.runSync(Effect.provide(fingerprintOf(model), services))
    return known === null ? {} : { system_fingerprint: known }
  }
})

/** A choice when it has ended. */
export interface Choice extends End {
  readonly text: string
  readonly prompt: ReadonlyArray<PromptToken> // where it is told
  readonly logged: ReadonlyArray<LoggedToken>
}

/** Waits for all of it. */
export const collect = Effect.fnUntraced(function* ({ promptTokens, events }: Generations) {
  const choices = promptTokens.map(() => new Gathered())
  yield* Stream.runForEach(events, (event) => Effect.sync(() => choices[event.choice]?.take(event)))
  return choices.map(({ choice }) => choice)
})

class Gathered {
  readonly #logged: Array<LoggedToken> = []
  #prompt: ReadonlyArray<PromptToken> = []
  #end: End = { ...NOTHING_USED, finishReason: "stop", endToken: null }

  take(event: ChoiceEvent): void {
    if (event._tag === "Prompt") this.#prompt = event.tokens
    else if (event._tag === "Token") this.#logged.push(event.token)
    else this.#end = event
  }

  get choice(): Choice {
    const text = this.#logged.map(({ text }) => text).join("")
    return { ...this.#end, text, prompt: this.#prompt, logged: this.#logged }
  }
}

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

/** A session in the scope of its request: what is not settled by then is cancelled. */
export interface OpenGeneration {
  readonly generation: Generation
  settled: boolean // it has ended, or goes on for a client that comes back
}

const end = ({ generation, settled }: OpenGeneration): void => (settled ? undefined : generation.cancel())

export const accepted = Effect.fnUntraced(function* (client: Client, request: InferRequest) {
  const options = { requestId: yield* RequestId, traceparent: yield* traceparent }
  const accepting = Effect.tryPromise({
    try: (signal) => client.generate(request, { ...options, signal }), // cancels one that is accepted after the client has gone
    catch: fromClient,
  })
  return yield* Effect.acquireRelease(
    Effect.map(accepting, (generation): OpenGeneration => ({ generation, settled: false })),
    (session) => Effect.sync(() => end(session)),
    { interruptible: true },
  )
})

const expired = (error: unknown): ApiError => {
  const failure = fromClient(error)
  if (failure.code !== "session_expired") return failure
  const reason = "Last-Event-ID: its session is not kept any more, or is another model's. Ask anew, without the header."
  return apiError(404, failure.code, reason, { param: "Last-Event-ID" })
}

/** One that was accepted before. */
export const found = (client: Client, session: string) =>
  Effect.acquireRelease(
    Effect.tryPromise({ try: () => client.find(session), catch: expired }).pipe(
      Effect.map((generation): OpenGeneration => ({ generation, settled: false })),
    ),
    (session) => Effect.sync(() => end(session)),
    { interruptible: true },
  )

interface Timing {
  readonly model: string
  readonly started: number | null
}

const eventsOf = (
  session: OpenGeneration,
  choice: number,
  { model, started }: Timing,
): Stream.Stream<ChoiceEvent, ApiError> => {
  const { generation } = session
  const logged = Stream.fromAsyncIterable(generation, fromClient)
  const timed = started === null ? logged : Stream.tap(logged, timing(model, started))
  const tokens = Stream.map(timed, (token): ChoiceEvent => ({ _tag: "Token", choice, token }))
  const ended = Effect.tryPromise({ try: () => generation.ending(), catch: fromClient }).pipe(
    Effect.tap((ending) => {
      session.settled = true
      return observe.ending(model, ending)
    }),
    Effect.flatMap((ending) => endOf(ending, choice)),
  )
  return Stream.concat(tokens, Stream.fromEffect(ended)).pipe(
    Stream.map(withPrompt(generation, choice)),
    Stream.flattenIterable,
  )
}

/** All of the prompt is there when the first token comes, or the end. */
const withPrompt = (generation: Generation, choice: number) => {
  let told = false
  return (event: ChoiceEvent): ReadonlyArray<ChoiceEvent> => {
    const tokens = told ? [] : generation.prompt()
    told = true
    return tokens.length === 0 ? [event] : [{ _tag: "Prompt", choice, tokens }, event]
  }
}

/** Observes each token as it comes. */
const timing = (model: string, started: number): (() => Effect.Effect<void>) => {
  const nextToken = observe.nextTokens(model)
  let last = started
  return () => {
    const now = performance.now()
    const observed = last === started ? observe.firstToken(model, now - started) : nextToken(now - last)
    last = now
    return observed
  }
}

const endOf = (ending: Ending, choice: number): Effect.Effect<ChoiceEvent, ApiError> => {
  const { finishReason, error, tokens, stats, endToken = null } = ending
  if (finishReason === "stop" || finishReason === "length") {
    const { reusedTokens } = stats
    return Effect.succeed({ _tag: "Ended", choice, finishReason, tokens: tokens.length, reusedTokens, endToken })
  }
  if (finishReason === "failed")
    return Effect.fail(apiError(503, "generation_failed", error, { retryAfterMillis: 1_000 }))
  if (finishReason === "deadline") return Effect.fail(apiError(504, "timeout", "the time for the answer was over"))
  return Effect.fail(apiError(499, "cancelled", "the session was cancelled: by a client, or because it was not read"))
}

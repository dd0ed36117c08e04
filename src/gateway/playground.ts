// The playground: a page without a build step (the files of playground/), and the two streams that it reads.
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { type Cause, Effect, Queue, Result, Schedule, Schema, Stream } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { traces } from "../bus/traces.ts"
import type { Client, Ending, Generation, InferRequest, LoggedToken } from "../client/index.ts"
import { Count, Positive } from "../wire/scalar.ts"
import { subjectsOf } from "../wire/subjects.ts"
import type { IterationTrace } from "../wire/trace.ts"
import { api } from "./api.ts"
import { Beats } from "./beats.ts"
import { Deployments } from "./deployments.ts"
import { type ApiError, apiError, fromClient } from "./errors.ts"
import { accepted, found, INTEREST_MILLIS, type OpenGeneration } from "./generations.ts"
import { observe } from "./metrics.ts"
import { Options } from "./options.ts"
import { body } from "./requestBody.ts"
import { type Chunk, numbered, resumptionOf, type StreamPosition } from "./resumption.ts"
import { eventStream } from "./serverSentEvents.ts"

const FOLDER = join(import.meta.dirname, "playground")

const TYPES = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml" } as const

export const FILES = [
  ...["index.html", "style.css", "icon.svg", "main.js", "answer.js", "charts.js", "draw.js", "events.js", "form.js"],
  ...["generation.js", "iterations.js", "ranks.js", "state.js", "theme.js", "tree.js"],
]

/** Nothing from elsewhere, nothing inline, and no page may frame it. */
const HEADERS = {
  "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cache-control": "no-cache",
}

const page = (path: HttpRouter.PathInput, file: string) =>
  HttpRouter.route(
    "GET",
    path,
    Effect.promise(async () => {
      const kind = file.split(".").at(-1) as keyof typeof TYPES
      const content = await readFile(join(FOLDER, file))
      return HttpServerResponse.uint8Array(content, { contentType: `${TYPES[kind]}; charset=utf-8`, headers: HEADERS })
    }),
  )

const pages = [page("/", "index.html"), ...FILES.map((file) => page(`/playground/${file}`, file))]

/** How often the page hears of models and ranks. */
const STATE_MILLIS = 500

const state = api("GET", "/playground/state", () =>
  Effect.gen(function* () {
    const { ranks } = yield* Beats
    const { served } = yield* Deployments
    const now = Effect.map(Effect.all({ models: served, ranks }), (data) => ({ data }))
    return yield* eventStream(Stream.fromEffectSchedule(now, Schedule.spaced(STATE_MILLIS)), { resumable: false })
  }),
)

const PlaygroundRequest = Schema.Struct({
  model: Schema.NonEmptyString,
  prompt: Schema.optionalKey(Schema.String),
  messages: Schema.optionalKey(Schema.Array(Schema.Struct({ role: Schema.String, content: Schema.String }))),
  temperature: Schema.optionalKey(Schema.Finite),
  top_p: Schema.optionalKey(Schema.Finite),
  top_k: Schema.optionalKey(Count),
  max_tokens: Positive,
  // A seed has 64 bits, more than a JSON number keeps.
  seed: Schema.optionalKey(
    Schema.String.annotate({ message: "has to be a number of at most 64 bits, written in digits" }).pipe(
      Schema.check(Schema.isPattern(/^\d{1,20}$/)),
    ),
  ),
  speculation: Schema.Union([
    Schema.Literals(["adaptive", "none"]),
    Schema.Struct({ depth: Positive, width: Positive, nodes: Positive }),
  ]),
  fuzzy: Schema.optionalKey(Positive),
})

const generate = api("POST", "/playground/generate", (caller) =>
  Effect.gen(function* () {
    const { requestMillis } = yield* Options
    const asked = yield* body(PlaygroundRequest)
    const client = yield* (yield* Deployments).client(asked.model)
    const request: InferRequest = {
      ...inferRequestOf(asked),
      ...{ trace: true, client: caller, deadlineMillis: requestMillis, interestMillis: INTEREST_MILLIS },
    }
    return yield* eventStream(yield* events(client, asked.model, request), RESUMABLE)
  }),
)

const inferRequestOf = (asked: typeof PlaygroundRequest.Type): InferRequest => {
  const { model: _, top_p, top_k, max_tokens, seed, ...rest } = asked
  const renamed = {
    ...(top_p === undefined ? {} : { topP: top_p }),
    ...(top_k === undefined ? {} : { topK: top_k }),
    maxTokens: max_tokens,
  }
  return { ...rest, ...renamed, ...(seed === undefined ? {} : { seed: BigInt(seed) }) }
}

const KIND = "playground"

/** The page takes up its own streams, so their events always have ids. */
const RESUMABLE = { resumable: true }

type PlaygroundEvent =
  | ({ readonly _tag: "Accepted"; readonly seed: string } & Pick<Generation, "session" | "promptTokens" | "sampling">)
  | ({ readonly _tag: "Token" } & LoggedToken)
  | IterationTrace
  | ({ readonly _tag: "End" } & Pick<Ending, "finishReason" | "stats">)

/** What may wait for a slow reader; then the tokens wait with the log, and iterations are left out. */
const WAITING = 1_024

/** Accepted by the deployment when this ends, or found where the page takes up a stream that broke off. */
const events = Effect.fnUntraced(function* (client: Client, deployment: string, request: InferRequest) {
  const { from } = yield* resumptionOf(KIND, true, 1)
  const queue = yield* Queue.bounded<PlaygroundEvent, ApiError | Cause.Done>(WAITING)
  // Before the request, and for every session, so that not even the first iteration is missed.
  const traced = yield* listen(client, deployment, queue)
  const [known] = from?.choices ?? []
  const opened = yield* known === undefined ? accepted(client, request) : found(client, known.session)
  const { session, promptTokens, seed, sampling } = opened.generation
  const place: StreamPosition = from ?? {
    kind: KIND,
    created: Math.floor(Date.now() / 1000),
    choices: [{ session, had: 0 }],
  }
  traced.session = session
  yield* Queue.offer(queue, { _tag: "Accepted", session, promptTokens, seed: `${seed}`, sampling })
  yield* Effect.forkScoped(Queue.into(tell(opened, deployment, queue), queue))
  // What is told of iterations is nowhere kept.
  const chunkOf = (data: PlaygroundEvent): Chunk => ({ choice: data._tag === "Iteration" ? null : 0, data })
  return numbered({ place, ...RESUMABLE }, Stream.map(Stream.fromQueue(queue), chunkOf))
})

const listen = Effect.fnUntraced(function* (
  { connection }: Client,
  deployment: string,
  queue: Queue.Enqueue<PlaygroundEvent, ApiError | Cause.Done>,
) {
  const subjects = subjectsOf(deployment)
  const traced = { session: "" }
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      connection.subscribe(subjects.trace("*"), {
        callback: (error, { subject, data }) => {
          if (error !== null || subject !== subjects.trace(traced.session)) return
          const trace = traces.decode(data)
          if (Result.isSuccess(trace)) Queue.offerUnsafe(queue, trace.success)
        },
      }),
    ),
    (subscription) => Effect.sync(() => subscription.unsubscribe()),
  )
  return traced
})

/** The tokens as they come, and how it ended. */
const tell = (
  opened: OpenGeneration,
  deployment: string,
  queue: Queue.Enqueue<PlaygroundEvent, ApiError | Cause.Done>,
) =>
  Effect.gen(function* () {
    const { generation } = opened
    yield* Stream.fromAsyncIterable(generation, fromClient).pipe(
      Stream.runForEach((token) => Queue.offer(queue, { _tag: "Token", ...token })),
    )
    const ending = yield* Effect.tryPromise({ try: () => generation.ending(), catch: fromClient })
    opened.settled = true
    yield* observe.ending(deployment, ending)
    const { finishReason, error, stats } = ending
    if (finishReason === "failed") return yield* apiError(503, "generation_failed", error)
    return yield* Queue.offer(queue, { _tag: "End", finishReason, stats })
  })

export const playground = [...pages, state, generate]

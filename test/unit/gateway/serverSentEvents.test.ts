// What a reader gets of a stream, to the byte: ids only where they were asked for, and what fills a silence.
import { expect, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Closing } from "../../../src/gateway/closing.ts"
import { type ApiError, apiError } from "../../../src/gateway/errors.ts"
import { type GatewayOptions, Options } from "../../../src/gateway/options.ts"
import { eventStream, type ServerSentEvent } from "../../../src/gateway/serverSentEvents.ts"

const options: GatewayOptions = {
  ...{ url: "nats://127.0.0.1:4222", host: "127.0.0.1", port: 0, keys: [], corsOrigins: [] },
  ...{ requestsPerMinute: null, requestMillis: 600_000, bodyLimit: 2 ** 20, keepAliveMillis: 15_000, strict: false },
}

const playing = (event: ServerSentEvent): Effect.Effect<ServerSentEvent, ApiError> => {
  if ("dies" in event.data) return Effect.die(new Error("a fault of ours"))
  return "fails" in event.data
    ? Effect.fail(apiError(503, "generation_failed", "a rank is lost"))
    : Effect.succeed(event)
}

/** All that is written while events come and the clock goes on. */
const written = (
  resumable: boolean,
  play: (tell: (event: ServerSentEvent) => Effect.Effect<unknown>) => Effect.Effect<unknown, ApiError>,
) =>
  Effect.gen(function* () {
    const queue = yield* Queue.unbounded<ServerSentEvent>()
    const events = Stream.fromQueue(queue).pipe(Stream.takeUntil(({ data }) => "last" in data))
    const failing = Stream.mapEffect(events, playing)
    const { body, headers } = yield* eventStream(failing, { resumable })
    expect(headers["content-type"]).toBe("text/event-stream; charset=utf-8")
    if (body._tag !== "Stream") throw new Error(body._tag)
    const text = yield* Effect.forkChild(Stream.mkString(Stream.decodeText(body.stream)))
    yield* Effect.yieldNow
    yield* play((event) => Effect.andThen(Queue.offer(queue, event), TestClock.adjust(0)))
    return yield* Fiber.join(text)
  }).pipe(Effect.provideService(Options, options), Effect.provideService(Closing, { over: Effect.never }))

it.effect("where no ids were asked for there is nothing but JSON in lines, also in a silence", () =>
  Effect.gen(function* () {
    const text = yield* written(false, (tell) =>
      Effect.gen(function* () {
        yield* tell({ data: { n: 1 } })
        yield* TestClock.adjust("14 seconds")
        yield* tell({ data: { n: 2 } })
        yield* TestClock.adjust("14 seconds")
        yield* tell({ data: { n: 3 } })
        yield* TestClock.adjust("47 seconds")
        yield* tell({ data: { last: true } })
      }),
    )
    const plain = ['{"n":1}', '{"n":2}', '{"n":3}', '   {"last":true}', "[DONE]"]
    expect(text).toBe(plain.map((data) => `data: ${data}\n\n`).join(""))
  }),
)

it.effect("a silence before the first event is filled too, and a failure goes on in its line", () =>
  Effect.gen(function* () {
    const text = yield* written(false, (tell) =>
      Effect.andThen(TestClock.adjust("30 seconds"), tell({ data: { fails: true } })),
    )
    expect(text).toMatch(/^data: {3}\{"error":\{.*"server_error".*\}\}\n\n$/)
    expect(JSON.parse(text.slice("data:".length))).toMatchObject({ error: { code: "generation_failed" } })
  }),
)

it.effect("what was not foreseen has a last event too, and no word of the fault", () =>
  Effect.gen(function* () {
    const text = yield* written(false, (tell) => tell({ data: { dies: true } }))
    expect(JSON.parse(text.slice("data:".length))).toEqual({
      error: {
        ...{ type: "server_error", code: "internal_error", param: null, status: 500 },
        message: expect.any(String),
      },
    })
    expect(text).not.toMatch(/a fault of ours/)
  }),
)

it.effect(
  "a client that asked for ids gets them, when to ask again, and comments that no blank line makes an event of",
  () =>
    Effect.gen(function* () {
      const text = yield* written(true, (tell) =>
        Effect.gen(function* () {
          yield* TestClock.adjust("16 seconds")
          yield* tell({ id: "a:1", data: { n: 1 } })
          yield* tell({ data: { n: 2 } })
          yield* TestClock.adjust("31 seconds")
          yield* tell({ id: "a:3", data: { last: true } })
        }),
      )
      expect(text).toBe(
        [
          ...[": still at it", "retry: 1000", "id: a:1", 'data: {"n":1}', ""],
          ...['data: {"n":2}', ""],
          ...[": still at it", ": still at it", "id: a:3", 'data: {"last":true}', ""],
          ...["data: [DONE]", "", ""],
        ].join("\n"),
      )
    }),
)

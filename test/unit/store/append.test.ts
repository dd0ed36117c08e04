// An append is stored once, whatever becomes of its questions and answers.
import { expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { appendTo, LogFailed, type LogPort } from "../../../src/store/append.ts"
import { StorageRefused } from "../../../src/wire/errors.ts"
import type { LogEntry } from "../../../src/wire/infer.ts"

const entry: LogEntry = { _tag: "Owner", epoch: 2, at: 0 }
const mine = { entry, after: 3, id: "mine" }
const failed = new LogFailed({ subject: "tokens.s", reason: "no answer" })

/** A log whose last entry is given, and whose answers to the first questions are lost. */
const logOf = (last: { id: string; sequence: number }, lost: number) => {
  const state = { last, lost, published: 0 }
  const answer = <A>(value: A): Effect.Effect<A, LogFailed> =>
    state.lost-- > 0 ? Effect.fail(failed) : Effect.succeed(value)
  const port: LogPort = {
    subject: "tokens.s",
    publish: ({ id, after }) =>
      Effect.suspend(() => {
        state.published++
        if (state.last.sequence !== after) return answer<number | "wrong sequence">("wrong sequence")
        state.last = { id, sequence: after + 1 }
        return answer<number | "wrong sequence">(after + 1)
      }),
    last: Effect.suspend(() => answer(state.last)),
  }
  return { port, state }
}

it.effect("whose acknowledgement is lost finds itself", () =>
  Effect.gen(function* () {
    const { port, state } = logOf({ id: "before", sequence: 3 }, 3)
    const append = yield* Effect.forkChild(appendTo(port, mine))
    yield* TestClock.adjust("2 seconds")
    expect(yield* Fiber.join(append)).toBe(4)
    expect(state.last).toEqual({ id: "mine", sequence: 4 })
  }),
)

it.effect("finds that another owner has written, and does not insist", () =>
  Effect.gen(function* () {
    const { port, state } = logOf({ id: "another's", sequence: 4 }, 0)
    const error = yield* Effect.flip(appendTo(port, mine))
    expect([error._tag, state.published, state.last.id]).toEqual(["LogMoved", 1, "another's"])
  }),
)

/** A storage that refuses this many times. */
const refusing = (times: number, tooLarge = false) => {
  const refused = new StorageRefused({ storage: "CHORUS_TOKENS", reason: "it is full", tooLarge })
  const { port, state } = logOf({ id: "before", sequence: 3 }, 0)
  const left = { times }
  const publish: LogPort["publish"] = (append) =>
    Effect.suspend(() =>
      left.times-- > 0
        ? Effect.fail(new LogFailed({ subject: "tokens.s", reason: "it is full", refused }))
        : port.publish(append),
    )
  return { port: { ...port, publish }, state, left }
}

it.effect("goes on by itself when there is room again", () =>
  Effect.gen(function* () {
    const append = yield* Effect.forkChild(appendTo(refusing(20).port, mine))
    yield* TestClock.adjust("5 seconds")
    expect(yield* Fiber.join(append)).toBe(4)
  }),
)

it.effect("fails after some seconds where the storage refuses on, naming it", () =>
  Effect.gen(function* () {
    const append = yield* Effect.forkChild(Effect.flip(appendTo(refusing(1_000).port, mine)))
    yield* TestClock.adjust("11 seconds")
    expect((yield* Fiber.join(append)).message).toBe("the storage CHORUS_TOKENS on NATS refuses: it is full.")
  }),
)

it.effect("is refused at once where it is in a hurry, and where it will never be taken", () =>
  Effect.gen(function* () {
    for (const [{ port, left }, append] of [
      [refusing(1_000), { ...mine, hurried: true }],
      [refusing(1_000, true), mine],
    ] as const) {
      expect((yield* Effect.flip(appendTo(port, append)))._tag).toBe("LogFailed")
      expect(left.times).toBe(999)
    }
  }),
)

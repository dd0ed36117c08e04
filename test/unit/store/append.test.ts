// An append is stored once, whatever becomes of its questions and answers.
import { expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { appendTo, LogFailed, type LogPort } from "../../../src/store/append.ts"
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

it.effect("finds that somebody else has written, and does not insist", () =>
  Effect.gen(function* () {
    const { port, state } = logOf({ id: "another's", sequence: 4 }, 0)
    const error = yield* Effect.flip(appendTo(port, mine))
    expect([error._tag, state.published, state.last.id]).toEqual(["LogMoved", 1, "another's"])
  }),
)

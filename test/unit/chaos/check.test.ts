// What the check of a chaos run finds: tokens that are missing, doubled, out of order or other ones, in the eyes of a reader
// or in the log, and endings that are not those of the undisturbed run.
import { expect, test } from "vitest"
import { checkLog, checkOutcome } from "../../../src/chaos/check.ts"
import type { GenerationOutcome, View } from "../../../src/chaos/generation.ts"
import { recoveries } from "../../../src/chaos/recovery.ts"
import type { LogEntry } from "../../../src/wire/infer.ts"

const UNDISTURBED = { tokens: [5, 6, 7, 8, 9], text: "abcde", finishReason: "length" }

const outcomeOf = (given: Partial<GenerationOutcome>): GenerationOutcome => ({
  ...{ number: 1, scene: { request: 0, way: "stream", leaves: [], second: null }, session: "s", refusals: 0 },
  ...{ views: [], ending: { finishReason: "length", error: "" }, text: null, problem: null, arrivals: [] },
  ...given,
})

const seen = (tokens: ReadonlyArray<number>, from = 0) => {
  const view: View = { reader: "a reader", from, tokens: [...tokens] }
  return checkOutcome(outcomeOf({ views: [view] }), UNDISTURBED)
}

test("what is as it should be is not found fault with, from whatever position it was read", () => {
  for (const from of [0, 1, 4, 5]) expect(seen(UNDISTURBED.tokens.slice(from), from)).toEqual([])
  expect(checkOutcome(outcomeOf({ text: "abcde" }), UNDISTURBED)).toEqual([])
})

test("a token that is lost, doubled, out of order or another one is found", () => {
  expect(seen([5, 7, 8, 9])).toEqual(["a reader from 0 on: token 1 is 7, not 6"])
  expect(seen([5, 6, 6, 7, 8, 9])).toEqual(["a reader from 0 on: token 2 is 6, not 7: it came twice"])
  expect(seen([5, 7, 6, 8, 9])).toEqual(["a reader from 0 on: token 1 is 7, not 6"])
  expect(seen([5, 6, 7, 8, 4])).toEqual(["a reader from 0 on: token 4 is 4, not 9"])
  expect(seen([5, 6, 7])).toEqual(["a reader from 0 on: 2 tokens are missing at the end"])
  expect(seen([5, 6, 7, 8, 9, 9])).toEqual(["a reader from 0 on: 1 tokens too many"])
  expect(seen([7, 8, 9], 1)).toEqual(["a reader from 1 on: token 0 is 7, not 6"])
})

test("another ending, another text, and no ending are found", () => {
  const failed = outcomeOf({ ending: { finishReason: "failed", error: "its ranks are gone" } })
  expect(checkOutcome(failed, UNDISTURBED)).toEqual(["ended with failed, not length: its ranks are gone"])
  expect(checkOutcome(outcomeOf({ text: "abcdf" }), UNDISTURBED)).toEqual(['its text is "abcdf"'])
  expect(checkOutcome(outcomeOf({ ending: null }), UNDISTURBED)).toEqual(["has no end"])
  expect(checkOutcome(outcomeOf({ problem: "heard nothing" }), UNDISTURBED)).toEqual(["heard nothing"])
})

const begin: LogEntry = { _tag: "Begin", epoch: 1, at: 0, promptTokens: 3, seed: 1n }
const owner = (at: number): LogEntry => ({ _tag: "Owner", epoch: 2, at })
const tokens = (at: number, ...ids: ReadonlyArray<number>): LogEntry => ({
  ...{ _tag: "Tokens", epoch: 1, at },
  tokens: ids.map((id) => ({ id, text: "x", origin: "plain" as const })),
})
const stats = {
  ...{ promptTokens: 3, reusedTokens: 0, tokens: 5, millis: 1, firstTokenMillis: 1, tokensPerSecond: 1 },
  ...{ iterations: 1, meanAcceptedLength: 0, passes: {} },
}
const end = (at: number): LogEntry => ({
  ...{ _tag: "End", epoch: 1, at, text: "", finishReason: "length", error: "", stats },
})

test("a log that has changed hands is right, and so is one that ends with what it began", () => {
  expect(checkLog([begin, tokens(0, 5, 6), tokens(2, 7, 8, 9), end(5)], UNDISTURBED)).toEqual([])
  expect(checkLog([begin, owner(0), tokens(0, 5, 6), owner(2), tokens(2, 7, 8, 9), end(5)], UNDISTURBED)).toEqual([])
})

test("a log with a gap, a repetition, two ends or none is not", () => {
  const wrong = (...entries: ReadonlyArray<LogEntry>) => checkLog(entries, UNDISTURBED)
  expect(wrong(begin, tokens(0, 5, 6), tokens(3, 8, 9), end(5))).toContain("entry 2 of the log is at 3, not 2")
  expect(wrong(begin, tokens(0, 5, 6), tokens(0, 5, 6), end(4))).toContain("entry 2 of the log is at 0, not 2")
  expect(wrong(begin, tokens(0, 5, 6, 7, 8, 9), end(5), end(5))).toEqual(["entry 2 of the log is End"])
  expect(wrong(begin, tokens(0, 5, 6, 7, 8, 9))).toEqual(["entry 1 of the log is Tokens"])
  expect(wrong(tokens(0, 5, 6, 7, 8, 9), end(5))).toEqual(["entry 0 of the log is Tokens"])
})

test("recovery is the longest wait of any session that ran at the fault", () => {
  const struck = (at: number) => ({
    fault: {
      ...({ number: 1, action: "kill", role: "rank", which: 0, pauseMillis: 0, lastsMillis: 0, alone: true } as const),
    },
    ...{ whom: "a rank", at, over: Promise.resolve() },
  })
  const outcomes = [
    outcomeOf({ arrivals: [0, 10, 110, 120] }), // accepted at 0
    outcomeOf({ arrivals: [5, 15, 400] }),
    outcomeOf({ arrivals: [60, 5_000] }), // not accepted yet
    outcomeOf({ arrivals: [1, 20] }), // over
  ]
  expect(recoveries([struck(50)], outcomes)).toEqual([
    { kind: "kill rank", faults: 1, medianMillis: 350, p95Millis: 350, longestMillis: 350, millis: [350] },
  ])
  expect(recoveries([struck(50), struck(115), struck(9_000)], outcomes)).toEqual([
    { kind: "kill rank", faults: 3, medianMillis: 350, p95Millis: 4_885, longestMillis: 4_885, millis: [350, 4_885] },
  ])
})

// A reader's place: each token once and in order, though the log may hold some twice, or lack some for a while.
import { expect, test } from "vitest"
import { Position, type Taken } from "../../../src/client/position.ts"
import type { LogEntry } from "../../../src/wire/infer.ts"

const tokens = (at: number, ...ids: ReadonlyArray<number>): LogEntry => ({
  ...{ _tag: "Tokens", epoch: 1, at },
  tokens: ids.map((id) => ({ id, text: "", origin: "plain" as const })),
})
const owner: LogEntry = { _tag: "Owner", epoch: 2, at: 2 }

const said = (taken: Taken) => (taken._tag === "Tokens" ? taken.tokens.map(({ id }) => id) : taken._tag)

test("what is there twice is taken once", () => {
  const position = new Position(0)
  expect(said(position.take(tokens(0, 5, 6)))).toEqual([5, 6])
  expect(said(position.take(tokens(0, 5, 6)))).toEqual([])
  expect(said(position.take(owner))).toEqual([])
  expect(said(position.take({ ...tokens(1, 6, 7), epoch: 2 }))).toEqual([7])
})

test("a reader from a position takes what is from there on", () => {
  const position = new Position(2)
  expect(said(position.take(tokens(0, 5)))).toEqual([])
  expect(said(position.take(tokens(1, 6, 7, 8)))).toEqual([7, 8])
})

test("what a former owner says after a later one is not taken", () => {
  const position = new Position(0)
  position.take({ ...owner, at: 0 })
  expect(said(position.take(tokens(0, 5)))).toEqual([])
  expect(said(position.take({ ...tokens(0, 5), epoch: 2 }))).toEqual([5])
})

test("what is missing is looked for once: it is there under other numbers, or expired", () => {
  const position = new Position(1)
  expect(said(position.take(tokens(2, 7)))).toBe("Gap")
  expect(said(position.take(tokens(1, 6)))).toEqual([6])
  expect(said(position.take(tokens(4, 9)))).toBe("Gap")
  expect(said(position.take(tokens(4, 9)))).toBe("Expired")
})

test("what is missing may be a former owner's, before a later one's", () => {
  const position = new Position(1)
  expect(said(position.take({ ...owner, at: 2 }))).toBe("Gap")
  expect(said(position.take(tokens(0, 5, 6)))).toEqual([6])
  expect(said(position.take({ ...owner, at: 2 }))).toEqual([])
  expect(said(position.take({ ...tokens(2, 7), epoch: 2 }))).toEqual([7])
})

test("a prompt that was missed is looked for, unless the reader has begun behind it", () => {
  const first = { id: 1, bytes: new Uint8Array(0) }
  const prompt: LogEntry = { _tag: "Prompt", epoch: 1, at: 0, from: 0, tokens: [first] }
  const answer: LogEntry = {
    _tag: "Tokens",
    epoch: 1,
    at: 0,
    tokens: [{ id: 5, text: "", origin: "plain" }],
    prompt: 1,
  }
  const position = new Position(0)
  expect(said(position.take(answer))).toBe("Gap")
  expect(position.take(prompt)).toEqual({ _tag: "Prompt", tokens: [first] })
  expect(said(position.take(answer))).toEqual([5])
  const live = new Position(0, false)
  expect(said(live.take(answer))).toEqual([5])
  expect(live.take(prompt)).toEqual({ _tag: "Prompt", tokens: [] })
})

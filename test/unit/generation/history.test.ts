// What a log says of its session, and what the owner of an epoch may do with it.
import { describe, expect, test } from "vitest"
import { historyOf, standingOf } from "../../../src/generation/history.ts"
import type { Logged } from "../../../src/store/tokenLog.ts"
import type { LogEntry } from "../../../src/wire/infer.ts"

const begin: LogEntry = { _tag: "Begin", epoch: 1, at: 0, promptTokens: 3, seed: 0n }
const tokens = (epoch: number, at: number, ...ids: ReadonlyArray<number>): LogEntry => ({
  ...{ _tag: "Tokens", epoch, at },
  tokens: ids.map((id) => ({ id, text: `${id}`, origin: "plain" as const })),
})
const owner = (epoch: number, at: number): LogEntry => ({ _tag: "Owner", epoch, at })

const logOf = (...entries: ReadonlyArray<LogEntry>): ReadonlyArray<Logged> =>
  entries.map((entry, i) => ({ entry, sequence: 10 * (i + 1) }))

const idsOf = (...entries: ReadonlyArray<LogEntry>) => historyOf(logOf(...entries))?.tokens.map(({ id }) => id)

describe("a history", () => {
  test("has the tokens of all owners in their order, and says where it ends", () => {
    const history = historyOf(logOf(begin, tokens(1, 0, 5, 6), owner(2, 2), tokens(2, 2, 7)))
    expect(history).toMatchObject({ epoch: 2, last: 40, end: null })
    expect(history?.tokens.map(({ id }) => id)).toEqual([5, 6, 7])
  })

  test("has a token once, though it was written twice", () => {
    expect(idsOf(begin, tokens(1, 0, 5, 6), tokens(1, 1, 6, 7), tokens(1, 1, 6))).toEqual([5, 6, 7])
  })

  test("takes nothing of a former owner after a later one's, not even an end", () => {
    expect(idsOf(begin, owner(2, 0), tokens(1, 4, 9), tokens(2, 0, 5))).toEqual([5])
    const lost = { _tag: "Lost", epoch: 1, at: 0, count: 2 } as const
    expect(historyOf(logOf(begin, owner(2, 0), lost))).toMatchObject({
      losses: { at: 0, count: 0 },
      epoch: 2,
      last: 30,
    })
  })

  test("says how often the session has lost its ranks, whichever owner it had", () => {
    const lost = { _tag: "Lost", epoch: 1, at: 2, count: 2 } as const
    expect(historyOf(logOf(begin, tokens(1, 0, 5, 6), lost, owner(2, 2)))?.losses).toEqual({ at: 2, count: 2 })
  })

  test("is empty where all of it was lost, and is none where its beginning is", () => {
    expect(historyOf([])).toEqual({ tokens: [], prompt: [], end: null, losses: { at: 0, count: 0 }, epoch: 0, last: 0 })
    expect(historyOf(logOf(tokens(1, 3, 8)))).toBeNull()
  })
})

describe("the owner of an epoch", () => {
  const history = historyOf(logOf(begin, tokens(1, 0, 5, 6), owner(2, 2))) ?? expect.fail("no history")

  test("goes on with what is its own", () => {
    expect(standingOf(history, 2)).toEqual({ _tag: "Ours" })
  })

  test("says first that the session is its own where a former owner has written last", () => {
    expect(standingOf(history, 3)).toEqual({ _tag: "Fence", entry: owner(3, 2) })
  })

  test("leaves it alone where a later one has written", () => {
    expect(standingOf(history, 1)).toEqual({ _tag: "Fenced" })
  })
})

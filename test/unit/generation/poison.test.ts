// Which losses count against a session.
import { expect, test } from "vitest"
import { type Losses, lose, lossesOf } from "../../../src/generation/losses.ts"

const NONE: Losses = { at: 0, count: 0 }

test("losses at one position add up; a token in between forgets those before it", () => {
  const twice = lose(lose(NONE, 0), 0)
  expect(twice).toEqual({ at: 0, count: 2 })
  expect(lose(twice, 7)).toEqual({ at: 7, count: 1 })
  expect(lose(lose(twice, 7), 7)).toEqual({ at: 7, count: 2 })
})

test("a log says how often its session has lost its ranks, whichever owner wrote it", () => {
  const begin = { _tag: "Begin", epoch: 1, at: 0, promptTokens: 3, seed: 1n } as const
  const tokens = { _tag: "Tokens", epoch: 1, at: 0, tokens: [{ id: 5, text: "a", origin: "plain" }] } as const
  expect(lossesOf([begin, tokens])).toEqual(NONE)
  const lost = (epoch: number, at: number, count: number) => ({ _tag: "Lost", epoch, at, count }) as const
  expect(lossesOf([begin, lost(1, 0, 1), tokens, lost(1, 1, 1), lost(2, 1, 2)])).toEqual({ at: 1, count: 2 })
})

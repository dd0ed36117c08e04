// What a rank sends of a session after each pass: what is new, from where the standby lacks it, and in bounded pieces.
import { expect, test } from "vitest"
import { StandbyFeed } from "../../../../src/rank/kv/standbyFeed.ts"
import type { Decode, Prefill } from "../../../../src/wire/pass.ts"

const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 1n }
const numbers = { session: "s", epoch: 1, pass: 1, attempt: 0 }
const prefill = (committed: number, change: Partial<Prefill> = {}): Prefill => ({
  ...{ _tag: "Prefill", ...numbers, committed, tokens: [], sampling },
  ...change,
})
const decode = (committed: number): Decode => ({
  _tag: "Decode",
  ...numbers,
  committed,
  acceptedRows: [],
  token: 1,
  steps: 1,
})
const nextOf = (standbyFeed: StandbyFeed, committed: number) => {
  const next = standbyFeed.next("s", committed, 256)
  if (next !== null) standbyFeed.sent("s", next.length, next.to, [new Uint8Array(3)])
  return next === null ? null : [next.length, next.to]
}

test("each pass adds what it has committed", () => {
  const standbyFeed = new StandbyFeed()
  standbyFeed.begin(prefill(0))
  expect(nextOf(standbyFeed, 100)).toEqual([0, 100])
  standbyFeed.begin(decode(100))
  expect(nextOf(standbyFeed, 103)).toEqual([100, 103])
  expect(nextOf(standbyFeed, 103)).toBe(null)
  expect([standbyFeed.messages, standbyFeed.bytes]).toEqual([2, 6])
})

test("what a later command builds on is kept, the rest is sent anew", () => {
  const standbyFeed = new StandbyFeed()
  standbyFeed.begin(prefill(0))
  nextOf(standbyFeed, 100)
  standbyFeed.begin(prefill(60))
  expect(nextOf(standbyFeed, 110)).toEqual([60, 110])
  standbyFeed.begin(prefill(50, { from: "another" })) // its first rows are a copy, and not what they were
  expect(nextOf(standbyFeed, 70)).toEqual([0, 70])
})

test("a standby that lacks rows gets them again; one that has just come gets all, in pieces", () => {
  const standbyFeed = new StandbyFeed()
  standbyFeed.begin(prefill(0))
  expect(standbyFeed.wanted).toBe(false)
  standbyFeed.hear({ _tag: "Listening" }, 1)
  expect(standbyFeed.wanted).toBe(true)
  expect(nextOf(standbyFeed, 600)).toEqual([0, 256])
  expect(nextOf(standbyFeed, 601)).toEqual([256, 512])
  standbyFeed.hear({ _tag: "Missing", session: "s", rank: 0, from: 0 }, 1) // another rank's
  standbyFeed.hear({ _tag: "Missing", session: "s", rank: 1, from: 300 }, 1)
  expect(nextOf(standbyFeed, 602)).toEqual([300, 556])
})

test("a session that is freed is not spoken of", () => {
  const standbyFeed = new StandbyFeed()
  standbyFeed.begin(prefill(0))
  standbyFeed.forget("s")
  expect(nextOf(standbyFeed, 100)).toBe(null)
})

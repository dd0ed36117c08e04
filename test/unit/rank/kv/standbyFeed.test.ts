// What a rank sends of a session after each pass: what is new, from where the standby lacks it, and in bounded pieces.
import { expect, test } from "vitest"
import { Deltas } from "../../../../src/rank/kv/standbyFeed.ts"
import type { Decode, Prefill } from "../../../../src/wire/pass.ts"

const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 1n }
const numbers = { session: "s", epoch: 1, pass: 1, attempt: 0 }
const prefill = (committed: number, change: Partial<Prefill> = {}): Prefill => ({
  ...{ _tag: "Prefill", ...numbers, committed, tokens: [], sampling },
  ...change,
})
const decode = (committed: number): Decode => ({ _tag: "Decode", ...numbers, committed, keep: [], token: 1, steps: 1 })
const nextOf = (deltas: Deltas, committed: number) => {
  const next = deltas.next("s", committed, 256)
  if (next !== null) deltas.sent("s", next.length, next.to, [new Uint8Array(3)])
  return next === null ? null : [next.length, next.to]
}

test("each pass adds what it has committed", () => {
  const deltas = new Deltas()
  deltas.begin(prefill(0))
  expect(nextOf(deltas, 100)).toEqual([0, 100])
  deltas.begin(decode(100))
  expect(nextOf(deltas, 103)).toEqual([100, 103])
  expect(nextOf(deltas, 103)).toBe(null)
  expect([deltas.messages, deltas.bytes]).toEqual([2, 6])
})

test("what a later command builds on is kept, the rest is sent anew", () => {
  const deltas = new Deltas()
  deltas.begin(prefill(0))
  nextOf(deltas, 100)
  deltas.begin(prefill(60))
  expect(nextOf(deltas, 110)).toEqual([60, 110])
  deltas.begin(prefill(50, { from: "another" })) // its first rows are a copy, and not what they were
  expect(nextOf(deltas, 70)).toEqual([0, 70])
})

test("a standby that lacks rows gets them again; one that has just come gets all, in pieces", () => {
  const deltas = new Deltas()
  deltas.begin(prefill(0))
  expect(deltas.wanted).toBe(false)
  deltas.hear({ _tag: "Listening" }, 1)
  expect(deltas.wanted).toBe(true)
  expect(nextOf(deltas, 600)).toEqual([0, 256])
  expect(nextOf(deltas, 601)).toEqual([256, 512])
  deltas.hear({ _tag: "Missing", session: "s", rank: 0, from: 0 }, 1) // another rank's
  deltas.hear({ _tag: "Missing", session: "s", rank: 1, from: 300 }, 1)
  expect(nextOf(deltas, 602)).toEqual([300, 556])
})

test("a session that is freed is not spoken of", () => {
  const deltas = new Deltas()
  deltas.begin(prefill(0))
  deltas.forget("s")
  expect(nextOf(deltas, 100)).toBe(null)
})

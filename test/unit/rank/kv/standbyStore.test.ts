// What a standby holds: rows in order, cut where they are sent anew, gaps told, sessions freed, and no more than its limit.
import { expect, test } from "vitest"
import { StandbyStore } from "../../../../src/rank/kv/standbyStore.ts"
import type { KvDelta } from "../../../../src/wire/kv.ts"

const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 1n }
const delta = (session: string, rank: number, from: number, count: number): KvDelta => ({
  ...{ _tag: "KvDelta", session, epoch: 1, group: "base", rank, from, count, sampling },
  values: Uint8Array.from({ length: count }, (_, i) => from + i),
})
const rowsOf = (held: StandbyStore, rank: number) =>
  held.take(rank).map(({ session, rows }) => [session, rows.map(({ from, end }) => [from, end])])

test("rows of one rank follow on one another, whatever the others have sent", () => {
  const held = new StandbyStore(2, () => 1000)
  expect([held.add(delta("s", 0, 0, 5)), held.add(delta("s", 1, 0, 3)), held.add(delta("s", 0, 5, 2))]).toEqual([
    ...[null, null, null],
  ])
  expect(rowsOf(held, 0)).toEqual([
    [
      "s",
      [
        [0, 5],
        [5, 7],
      ],
    ],
  ])
  expect(held.sessions).toBe(0) // what the other ranks had is of no use any more
})

test("a gap is told with the first row that is missing, and nothing is taken in", () => {
  const held = new StandbyStore(2, () => 1000)
  expect(held.add(delta("s", 0, 4, 5))).toBe(0)
  held.add(delta("s", 0, 0, 4))
  expect(held.add(delta("s", 0, 6, 5))).toBe(4)
  expect(rowsOf(held, 0)).toEqual([["s", [[0, 4]]]])
})

test("rows that are sent anew replace those from there on", () => {
  const held = new StandbyStore(1, () => 1000)
  for (const [from, count] of [
    [0, 5],
    [5, 5],
    [3, 1],
  ] as const) {
    held.add(delta("s", 0, from, count))
  }
  expect(rowsOf(held, 0)).toEqual([
    [
      "s",
      [
        [0, 3],
        [3, 4],
      ],
    ],
  ])
})

test("a session that was freed is gone, whatever comes late for it; begun anew it is there", () => {
  const held = new StandbyStore(1, () => 1000)
  held.add(delta("s", 0, 0, 5))
  held.free("s")
  expect(held.add(delta("s", 0, 5, 2))).toBe(null)
  expect([held.sessions, held.bytes]).toEqual([0, 0])
  held.add(delta("s", 0, 0, 2))
  expect(held.sessions).toBe(1)
})

test("beyond the limit the session goes that has not grown for longest", () => {
  const held = new StandbyStore(2, () => 10)
  held.add(delta("a", 0, 0, 4))
  held.add(delta("b", 0, 0, 4))
  held.add(delta("a", 1, 0, 4)) // another rank's rows of the same tokens
  expect(held.sessions).toBe(2)
  held.add(delta("c", 0, 0, 4))
  expect(rowsOf(held, 0).map(([session]) => session)).toEqual(["a", "c"])
})

// Drafts that go together: never more than a pass takes, never of different N, and none is left waiting.
import fc from "fast-check"
import { expect, test } from "vitest"
import { type BatchEvent, decide, idle, type Wanted } from "../../../src/replica/draftBatch.ts"

const want = (id: number, fuzzy = 4, rows = 4): BatchEvent => ({ _tag: "Wanted", wanted: { id, fuzzy, rows } })
const answered: BatchEvent = { _tag: "Answered" }

const run = (maxRows: number, events: ReadonlyArray<BatchEvent>): ReadonlyArray<ReadonlyArray<number>> => {
  let state = idle(maxRows)
  return events.flatMap((event) => {
    const [next, actions] = decide(state, event)
    state = next
    return actions.map(({ ids }) => ids)
  })
}

test("the first goes at once, alone; those that come meanwhile go together", () => {
  expect(run(512, [want(1), want(2), want(3), answered, want(4), answered])).toEqual([[1], [2, 3], [4]])
})

test("those of another N go by themselves, in their turn", () => {
  const events = [want(1), want(2, 1), want(3), want(4, 1), answered, want(5), answered]
  expect(run(512, events)).toEqual([[1], [2, 4], [3, 5]])
})

test("one that was withdrawn is not sent", () => {
  expect(run(512, [want(1), want(2), { _tag: "Withdrawn", id: 2 }, answered, want(3)])).toEqual([[1], [3]])
})

test("whatever comes, a command keeps to the rows of a pass and to one N, everyone is sent once, and soon", () => {
  const Drafts = fc.array(fc.record({ fuzzy: fc.integer({ min: 1, max: 3 }), rows: fc.integer({ min: 1, max: 40 }) }), {
    maxLength: 40,
  })
  fc.assert(
    fc.property(Drafts, fc.array(fc.boolean()), (drafts, coins) => {
      const wanted = drafts.map((draft, id): Wanted => ({ id, ...draft }))
      const queue = [...wanted]
      const sent: Array<ReadonlyArray<number>> = []
      let state = idle(64)
      const happen = (event: BatchEvent) => {
        const [next, actions] = decide(state, event)
        state = next
        for (const { ids } of actions) sent.push(ids)
      }
      for (const coin of coins) {
        const next = coin ? queue.shift() : undefined
        happen(next === undefined ? answered : { _tag: "Wanted", wanted: next })
      }
      for (const next of queue) happen({ _tag: "Wanted", wanted: next })
      for (let i = 0; i <= drafts.length; i++) happen(answered)
      expect(sent.flat().sort((a, b) => a - b)).toEqual(wanted.map(({ id }) => id))
      for (const ids of sent) {
        const together = ids.flatMap((id) => wanted[id] ?? [])
        expect(new Set(together.map(({ fuzzy }) => fuzzy)).size).toBe(1)
        expect(together.reduce((sum, { rows }) => sum + rows, 0)).toBeLessThanOrEqual(64)
      }
    }),
  )
})

// How many supervisors share a deployment's replicas: one that hears no other because it is cut off, or was held up, is not alone.
import { expect, test } from "vitest"
import { Sharers } from "../../../src/replica/supervisorCount.ts"
import { SUPERVISOR_BEAT_MILLIS } from "../../../src/wire/beat.ts"

/** One that has heard itself and another, and the times at which it ticks. */
const two = () => {
  const changes: Array<number> = []
  let now = 0
  const sharers: Sharers = new Sharers(() => changes.push(sharers.count), now)
  const ticks = (times: number, { connected = true, millis = SUPERVISOR_BEAT_MILLIS, own = true } = {}) => {
    for (let i = 0; i < times; i++) {
      now += millis
      sharers.tick(now, connected)
      if (own) sharers.hear({ id: "own", state: "ready" })
    }
  }
  sharers.hear({ id: "own", state: "ready" })
  sharers.hear({ id: "other", state: "ready" })
  return { sharers, changes, ticks }
}

test("one that is not heard for five beats is gone", () => {
  const { sharers, changes, ticks } = two()
  ticks(4)
  expect(sharers.count).toBe(2)
  ticks(1)
  expect(sharers.count).toBe(1)
  expect(changes).toEqual([1, 2, 1])
})

test("one that goes says so, and one that comes back counts again", () => {
  const { sharers } = two()
  sharers.hear({ id: "other", state: "draining" })
  expect(sharers.count).toBe(1)
  sharers.hear({ id: "other", state: "ready" })
  expect(sharers.count).toBe(2)
})

test("while the own connection is lost none is missed, and then all have their whole time", () => {
  const { sharers, ticks } = two()
  ticks(3) // the link is dead, and that has not been noticed yet
  ticks(20, { connected: false, own: false })
  expect(sharers.count).toBe(2)
  ticks(4)
  expect(sharers.count).toBe(2)
  ticks(2) // the first one after so long was late
  expect(sharers.count).toBe(1)
})

test("at a tick that comes late none is judged: the others' beats are in the socket", () => {
  const { sharers, ticks } = two()
  ticks(4)
  ticks(1, { millis: 10 * SUPERVISOR_BEAT_MILLIS })
  expect(sharers.count).toBe(2)
  sharers.hear({ id: "other", state: "ready" })
  ticks(4)
  expect(sharers.count).toBe(2)
})

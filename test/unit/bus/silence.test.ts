// Who has fallen silent, and who is not judged.
import { expect, test } from "vitest"
import { Silence } from "../../../src/bus/silence.ts"

const watching = () => {
  const silence = new Silence<string>({ everyMillis: 250, missed: 4 }, 0)
  let now = 0
  /** The next tick, after its time or later. */
  const tick = (millis = 250): ReadonlyArray<string> => {
    now += millis
    return silence.tick(now)
  }
  return { silence, tick }
}

test("who is not heard for so many beats is silent, once", () => {
  const { silence, tick } = watching()
  silence.heard("a")
  silence.heard("b")
  expect([tick(), tick(), tick()]).toEqual([[], [], []])
  silence.heard("b")
  expect([tick(), tick(), tick(), tick()]).toEqual([["a"], [], [], ["b"]])
  expect([tick(), tick(), tick(), tick()]).toEqual([[], [], [], []])
})

test("who was late himself judges nobody, however long he was", () => {
  const { silence, tick } = watching()
  silence.heard("a")
  expect(tick(3_600_000)).toEqual([]) // the machine was suspended
  silence.heard("a")
  expect([tick(), tick(), tick()]).toEqual([[], [], []])
  expect([tick(400), tick(400)]).toEqual([[], []]) // under load: too long already, and not judged
  silence.heard("a")
  expect([tick(), tick(), tick(), tick()]).toEqual([[], [], [], ["a"]])
})

test("who is forgotten is not missed", () => {
  const { silence, tick } = watching()
  silence.heard("a")
  silence.forget("a")
  expect([tick(), tick(), tick(), tick(), tick()].flat()).toEqual([])
})

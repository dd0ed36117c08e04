// Which peers have fallen silent, and which are not judged.
import { expect, test } from "vitest"
import { Heard, Silence } from "../../../src/bus/silence.ts"

const watching = () => {
  const silence = new Silence<string>({ everyMillis: 250, missed: 4 }, 0)
  let now = 0
  /** The next tick, after its time or later. */
  const tick = (millis = 250, connected = true): ReadonlyArray<string> => {
    now += millis
    return silence.tick(now, connected)
  }
  return { silence, tick }
}

test("a peer that misses its beats is silent, once", () => {
  const { silence, tick } = watching()
  silence.heard("a")
  silence.heard("b")
  expect([tick(), tick(), tick()]).toEqual([[], [], []])
  silence.heard("b")
  expect([tick(), tick(), tick(), tick()]).toEqual([["a"], [], [], ["b"]])
  expect([tick(), tick(), tick(), tick()]).toEqual([[], [], [], []])
})

test("a process that was late itself judges no peer, however late it was", () => {
  const { silence, tick } = watching()
  silence.heard("a")
  expect(tick(3_600_000)).toEqual([]) // the machine was suspended
  silence.heard("a")
  expect([tick(), tick(), tick()]).toEqual([[], [], []])
  expect([tick(400), tick(400)]).toEqual([[], []]) // under load: too long already, and not judged
  silence.heard("a")
  expect([tick(), tick(), tick(), tick()]).toEqual([[], [], [], ["a"]])
})

test("a forgotten peer is not missed", () => {
  const { silence, tick } = watching()
  silence.heard("a")
  silence.forget("a")
  expect([tick(), tick(), tick(), tick(), tick()].flat()).toEqual([])
})

test("while no peer can be heard none is missed, and then all have their whole time", () => {
  const { silence, tick } = watching()
  silence.heard("a")
  const ticks = (count: number, connected: boolean) => Array.from({ length: count }, () => tick(250, connected)).flat()
  expect(ticks(3, true)).toEqual([])
  expect(ticks(20, false)).toEqual([])
  expect(ticks(3, true)).toEqual([])
  expect(ticks(1, true)).toEqual(["a"])
})

test("the newest word of each is there until it is silent or goes", () => {
  const heard = new Heard<string, number>({ everyMillis: 250, missed: 2 }, 0)
  expect([heard.hear("a", 1), heard.hear("a", 2), heard.hear("b", 3)]).toEqual([undefined, 1, undefined])
  expect([...heard.all]).toEqual([
    ["a", 2],
    ["b", 3],
  ])
  expect([heard.left("b"), heard.left("b")]).toEqual([true, false])
  expect([heard.tick(250, true), heard.tick(500, true), heard.all.size]).toEqual([[], ["a"], 0])
})

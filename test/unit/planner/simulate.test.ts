// Virtual time: ports carry one message after the other, ways as many as come, and what waits for nobody's message is told.
import { expect, test } from "vitest"
import { A100_8, type Hardware, type Link } from "../../../src/planner/hardware.ts"
import { type Step, Stuck, simulate } from "../../../src/planner/simulate.ts"

const link: Link = { latencySeconds: 1, bytesPerSecond: 10, multicast: false }
const [device] = A100_8.machines[0]?.devices ?? []

const hardware = (machines: ReadonlyArray<number>, of: Partial<Link> = {}): Hardware => ({
  ...A100_8,
  machines: machines.map((count) => ({
    devices: device === undefined ? [] : Array.from({ length: count }, () => device),
    within: { ...link, ...of },
  })),
  between: { ...link, ...of },
})

const send = (hop: number, to: ReadonlyArray<number>, bytes: number): Step => ({ step: "send", hop, to, bytes })
const receive = (hop: number, from: ReadonlyArray<number>): Step => ({ step: "receive", hop, from })
const compute = (seconds: number): Step => ({ step: "compute", seconds })

test("a message takes its bytes and the way, and the receiver goes on when it is there", () => {
  const ask = [compute(2), send(1, [1], 20), receive(2, [1])]
  const answer = [receive(1, [0]), compute(3), send(2, [0], 0)]
  const outcome = simulate([ask, answer], hardware([2]))
  expect(outcome).toEqual({ seconds: 2 + 2 + 1 + 3 + 1, busy: [2, 3], hops: 2, messages: 2, bytes: 20 })
})

test("a rank that was slower has its message taken at once", () => {
  const outcome = simulate([[compute(9), receive(1, [1])], [send(1, [0], 10)]], hardware([2]))
  expect(outcome.seconds).toBe(9)
})

test("devices of one machine share its port to others, but not their own ways within", () => {
  const senders = [[send(1, [3], 10)], [send(1, [3], 10)]]
  const within = simulate([[receive(1, [1, 2])], ...senders.map(() => [send(1, [0], 10)])], hardware([3]))
  expect(within.seconds).toBe(1 + 1)
  const between = simulate([[receive(1, [1, 2])], ...senders.map(() => [send(1, [0], 10)])], hardware([1, 2]))
  expect(between.seconds).toBe(2 + 1)
})

test("a bus carries a broadcast once, other links once a receiver", () => {
  const programs = [[send(1, [1, 2], 10), receive(2, [1, 2])], ...[1, 2].map(() => [receive(1, [0]), send(2, [0], 0)])]
  expect(simulate(programs, hardware([1, 1, 1]))).toMatchObject({ seconds: 2 + 1 + 1, messages: 4 })
  expect(simulate(programs, hardware([1, 1, 1], { multicast: true }))).toMatchObject({
    seconds: 1 + 1 + 1,
    messages: 3,
  })
})

test("a message that nobody sends", () => {
  expect(() => simulate([[receive(1, [1])], []], hardware([2]))).toThrow(Stuck)
})

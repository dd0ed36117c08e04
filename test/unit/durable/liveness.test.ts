// Which processes are taken for dead, and which not yet.
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { keyPart, nameOf } from "../../../src/durable/key.ts"
import { Liveness, TICK_MILLIS } from "../../../src/durable/liveness.ts"
import { claimable, claimed, type Execution, handedOver } from "../../../src/durable/ownership.ts"
import { LEASE_MILLIS } from "../../../src/store/lease.ts"

const LEASE = LEASE_MILLIS / TICK_MILLIS // ticks

let now = 0
const later = (millis: number): number => {
  now += millis
  return now
}

const ticks = (liveness: Liveness, count: number): number =>
  Array.from({ length: count }, () => liveness.tick(later(TICK_MILLIS))).filter((died) => died).length

describe("an owner", () => {
  test("is dead when it was silent for its lease, which is told once", () => {
    const liveness = new Liveness(now)
    liveness.heard("a")
    expect(ticks(liveness, LEASE - 1)).toBe(0)
    expect(liveness.isAlive("a")).toBe(true)
    expect(ticks(liveness, 1)).toBe(1)
    expect(liveness.isAlive("a")).toBe(false)
    expect(ticks(liveness, 10 * LEASE)).toBe(0)
  })

  test("that is heard in time lives on, and one that is heard again lives again", () => {
    const liveness = new Liveness(now)
    for (let i = 0; i < 10; i++) {
      liveness.heard("a")
      expect(ticks(liveness, LEASE - 1)).toBe(0)
    }
    ticks(liveness, 1)
    liveness.heard("a")
    expect(liveness.isAlive("a")).toBe(true)
  })

  test("that was never heard has its lease from when it was named", () => {
    const liveness = new Liveness(now)
    ticks(liveness, 100)
    expect(liveness.isAlive("a")).toBe(true)
    liveness.expect("a")
    ticks(liveness, LEASE - 1)
    liveness.expect("a") // named again, it is not heard
    expect(ticks(liveness, 1)).toBe(1)
  })

  test("that says that it goes is dead at once", () => {
    const liveness = new Liveness(now)
    liveness.heard("a")
    liveness.left("a")
    expect(liveness.isAlive("a")).toBe(false)
  })
})

describe("an execution", () => {
  const execution: Execution = {
    ...{ workflow: "W", payload: {}, owner: "a", epoch: 1, parent: null, interrupted: null, wakes: 0 },
  }

  test("may be claimed when its owner is dead, or has handed it over", () => {
    expect(claimable(execution, () => true)).toBe(false)
    expect(claimable(execution, () => false)).toBe(true)
    expect(claimable(handedOver(execution), () => true)).toBe(true)
  })

  test("has a higher epoch with each owner", () => {
    expect(claimed(handedOver(claimed(execution, "b")), "a")).toMatchObject({ owner: "a", epoch: 3 })
  })
})

test("every name is a token of a key, and a token of no other name", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (name) => {
      expect(keyPart(name)).toMatch(/^[-=_a-zA-Z0-9]+$/)
      expect(nameOf(keyPart(name))).toBe(Buffer.from(name).toString())
    }),
  )
})

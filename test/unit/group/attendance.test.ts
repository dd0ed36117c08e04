// Which ranks are there: silences, returns, and the time that a standby has to take a lost rank's place.
import { expect, test } from "vitest"
import { Attendance } from "../../../src/group/attendance.ts"
import { BEAT_MILLIS } from "../../../src/wire/beat.ts"

let now = 0
const later = (millis: number): number => {
  now += millis
  return now
}

const beat = (rank: number, pid = rank, connections = 1) => ({ rank, pid, connections, state: "ready" }) as const

/** Two ranks that were heard. */
const attending = (standby = false) => {
  const attendance = new Attendance(2, () => standby, now)
  for (const rank of [0, 1]) attendance.heard(beat(rank))
  return attendance
}

/** Ticks in which the ranks are heard that still beat. */
const ticks = (attendance: Attendance, count: number, ...beating: ReadonlyArray<number>): void => {
  for (let i = 0; i < count; i++) {
    for (const rank of beating) attendance.heard(beat(rank))
    attendance.tick(later(BEAT_MILLIS))
  }
}

test("a rank that misses four beats in a row is lost, and none while the connection is down", () => {
  const attendance = attending()
  ticks(attendance, 3, 0)
  attendance.connection(false)
  ticks(attendance, 10)
  attendance.connection(true)
  ticks(attendance, 3, 0)
  expect(attendance.lost).toBeUndefined()
  ticks(attendance, 1, 0)
  expect(attendance.lost).toContain("rank 1 was not heard")
})

test("at a tick that comes late no rank is judged, since what it has said is still to be heard", () => {
  const attendance = attending()
  ticks(attendance, 3, 0)
  attendance.tick(later(2 * BEAT_MILLIS))
  expect(attendance.lost).toBeUndefined()
  attendance.heard(beat(1))
  ticks(attendance, 3, 0)
  expect(attendance.lost).toBeUndefined()
  attendance.heard(beat(1))
  ticks(attendance, 4, 0)
  expect(attendance.lost).toContain("rank 1")
})

test("a rank that is another process is lost at once", () => {
  const attendance = attending()
  attendance.heard(beat(1, 77))
  expect(attendance.lost).toBe("rank 1 has begun anew")
})

test("what was asked is asked again where a rank alone has lost its connection", () => {
  const attendance = attending()
  expect(attendance.heard(beat(1, 1, 1))).toBe(false)
  expect(attendance.heard(beat(1, 1, 2))).toBe(true)
  expect(attendance.heard(beat(1, 1, 2))).toBe(false)
})

test("after a reconnection the group is gathered when every rank was heard again", () => {
  const attendance = attending()
  expect([attendance.connection(true), attendance.gathered]).toEqual([false, true])
  attendance.connection(false)
  expect(attendance.gathered).toBe(false)
  expect([attendance.connection(true), attendance.gathered]).toEqual([true, false])
  expect([attendance.heard(beat(0)), attendance.gathered]).toEqual([false, false])
  expect([attendance.heard(beat(1)), attendance.gathered]).toEqual([true, true])
})

test("where there is a standby, a lost rank is waited for, and the group is whole when it is back", () => {
  const attendance = attending(true)
  ticks(attendance, 10, 0)
  expect([attendance.gathered, attendance.lost]).toEqual([false, undefined])
  expect(attendance.heard(beat(1))).toBe(true)
  ticks(attendance, 20, 0, 1)
  expect([attendance.gathered, attendance.lost]).toEqual([true, undefined])
})

test("and is given up when no standby has taken its place in time", () => {
  const attendance = attending(true)
  ticks(attendance, 15, 0)
  expect(attendance.lost).toBeUndefined()
  ticks(attendance, 1, 0)
  expect(attendance.lost).toContain("rank 1 was not heard")
})

test("a group that has moved is gathered when every rank was heard in its new epoch, whatever process it is", () => {
  const attendance = attending(true)
  ticks(attendance, 10, 0)
  attendance.move()
  ticks(attendance, 16)
  expect([attendance.gathered, attendance.lost]).toEqual([false, undefined])
  expect([attendance.heard(beat(0, 9)), attendance.heard(beat(1, 8))]).toEqual([false, true])
  expect([attendance.gathered, attendance.lost]).toEqual([true, undefined])
})

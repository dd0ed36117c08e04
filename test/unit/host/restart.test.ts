// Restarts in OTP's terms, and the peak by which replicas are taken away.
import { expect, test } from "vitest"
import { PeakLoad } from "../../../src/controller/peakLoad.ts"
import { type History, RESTARTS, restart } from "../../../src/host/restart.ts"

test("pauses grow with the restarts of the period, and too many of them are the end", () => {
  let history: History = []
  const pauses: Array<number> = []
  for (let i = 0; i < RESTARTS.intensity; i++) {
    const next = restart(history, i, RESTARTS)
    if (next._tag === "GiveUp") break
    history = next.history
    pauses.push(next.afterMillis)
  }
  expect(pauses).toEqual([100, 200, 400, 800, 1600])
  expect(restart(history, 10, RESTARTS)).toEqual({ _tag: "GiveUp", restarts: 5 })
})

test("restarts of former times do not count", () => {
  const history = [0, 1, 2, 3, 4]
  expect(restart(history, 60_002, RESTARTS)).toEqual({ _tag: "Again", afterMillis: 400, history: [3, 4, 60_002] })
})

test("the peak is the highest load that was seen within the time", () => {
  const peak = new PeakLoad()
  peak.note(0, 4)
  peak.note(100, 4)
  peak.note(150, 1)
  expect(peak.over(150, 1_000)).toBe(4)
  expect(peak.over(1_099, 1_000)).toBe(4)
  expect(peak.over(1_100, 1_000)).toBe(1)
  peak.note(1_200, 0)
  expect(peak.over(1_200, 1_000)).toBe(0)
  expect(peak.over(9_000, 1_000)).toBe(0)
})

// `chorus chaos` as a user runs it, for half a minute each: everything that can be struck is, generations go on over NATS
// and HTTP, and not one token is lost, doubled or another one. `chorus chaos --faults 500 --generations 300` is the same for
// longer.
import { afterAll, afterEach, expect, test } from "vitest"
import type { Report } from "../../src/chaos/chaos.ts"
import { commandLine } from "../integration/commandLine.ts"

const chorus = commandLine()
afterEach(() => {
  expect(chorus.processes()).toEqual([])
  expect(chorus.files()).toEqual([])
})
afterAll(() => chorus.close())

const struck = async (...args: ReadonlyArray<string>): Promise<Report> => {
  const { code, stdout, stderr } = await chorus.run(["chaos", "--json", ...args])
  expect({ code, stderr }).toMatchObject({ code: 0 })
  return JSON.parse(stdout)
}

test("an installation with a cluster of three servers", async () => {
  const report = await struck("--seed", "1", "--faults", "8", "--generations", "12")
  expect(report).toMatchObject({ seed: 1, faults: 8, violations: [] })
  expect(report.generations).toBeGreaterThanOrEqual(12)
  expect(report.recovery.reduce((sum, { faults }) => sum + faults, 0)).toBe(8)
})

test("an installation with one server, which is killed and started again", async () => {
  const report = await struck("--seed", "1", "--faults", "8", "--generations", "12", "--servers", "1")
  expect(report).toMatchObject({ faults: 8, violations: [] })
  expect(report.recovery.map(({ kind }) => kind)).toContainEqual(expect.stringMatching(/^(kill|restart) server$/))
})

// How many steps are one command: smooth for a reader that is alone, and no more commands than tokens are worth where there are many.
import fc from "fast-check"
import { expect, test } from "vitest"
import { stepsAfter } from "../../../src/generation/decode.ts"

test.each([
  ["nothing is known yet", null, 1],
  ["a small model alone", { millis: 2, computeMillis: 1.5 }, 32],
  ["16 sessions of it", { millis: 9, computeMillis: 0.4 }, 11],
  ["a model that takes 30 ms a step: as many as a tenth of a second has", { millis: 30, computeMillis: 29 }, 3],
  ["a model that takes longer than that: each step is told at once", { millis: 150, computeMillis: 148 }, 1],
  ["64 sessions of a small model: the supervisor would be what they wait for", { millis: 40, computeMillis: 0.6 }, 7],
  ["256 of them: not longer than half a second", { millis: 154, computeMillis: 0.6 }, 3],
  ["16 sessions of a large model: their commands are few beside its work", { millis: 160, computeMillis: 10 }, 1],
] as const)("%s", (_, step, steps) => {
  expect(stepsAfter(step)).toBe(steps)
})

test("a burst has 32 steps at most within a tenth of a second, and eight within half a second", () => {
  const positive = fc.double({ min: 0.001, max: 10_000, noNaN: true })
  fc.assert(
    fc.property(positive, positive, (millis, computeMillis) => {
      const steps = stepsAfter({ millis, computeMillis })
      expect(Number.isInteger(steps) && steps >= 1 && steps <= 32).toBe(true)
      if (steps > 8) expect(steps * millis).toBeLessThanOrEqual(100)
      if (steps > 1) expect(steps * millis).toBeLessThanOrEqual(500)
    }),
  )
})

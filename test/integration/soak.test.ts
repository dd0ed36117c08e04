// The short form of `npm run soak`: what a few hundred generations leave behind.
import { expect, test } from "vitest"
import { soak } from "../../bench/soaking.ts"

test("three hundred short generations, a third of them cancelled, leave no KV, no subscription and no memory behind", async () => {
  const report = await soak({ generations: 300, streams: 12, seed: 5, say: () => {} })
  expect(report.left).toEqual([])
  expect(report.cancelled).toBeGreaterThan(30)
  expect(report.tokens).toBeGreaterThan(1000)
})

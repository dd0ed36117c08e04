// Hedged requests: a responder that is silent costs the wait for the next one, and no answer is heard twice.
import { expect, test } from "vitest"
import { hedged } from "../../../src/bus/hedged.ts"

const HEDGE = { afterMillis: 5, withinMillis: 60_000 }

/** Asked one after another; each answers when the test says so. */
const asked = () => {
  const answers: Array<(answer: string) => void> = []
  let next = (): void => {}
  const ask = (): Promise<string> =>
    new Promise((resolve) => {
      answers.push(resolve)
      next()
    })
  const until = (count: number): Promise<void> =>
    new Promise((resolve) => {
      next = () => (answers.length >= count ? resolve() : undefined)
      next()
    })
  return { answers, ask, until }
}

test("an answer ends the asking", async () => {
  const { answers, ask } = asked()
  const first = hedged(HEDGE, ask)
  answers[0]?.("at once")
  expect(await first).toBe("at once")
  await new Promise((resolve) => setTimeout(resolve, 4 * HEDGE.afterMillis))
  expect(answers).toHaveLength(1)
})

test("one that hangs does not keep the others from answering, and what it says later is unwanted", async () => {
  const { answers, ask, until } = asked()
  const late: Array<string> = []
  const first = hedged(HEDGE, ask, (answer) => late.push(answer))
  await until(3)
  answers[1]?.("the second")
  expect(await first).toBe("the second")
  answers[0]?.("the first, awake again")
  await Promise.resolve()
  expect(late).toEqual(["the first, awake again"])
})

test("no responder is asked that could not answer in time", async () => {
  let times = 0
  const silent = (timeout: number) => {
    times++
    return new Promise<never>((_, reject) => setTimeout(reject, timeout, new Error("timeout")))
  }
  await expect(hedged({ afterMillis: 20, withinMillis: 50 }, silent)).rejects.toThrow("timeout")
  expect(times).toBeLessThanOrEqual(3)
})

test("it fails with a refusal, and where no answer can come any more", async () => {
  const refused = () => Promise.reject(new Error("nobody listens"))
  await expect(hedged(HEDGE, refused)).rejects.toThrow("nobody listens")
  const gone = Promise.reject(new Error("the connection is gone"))
  await expect(hedged({ ...HEDGE, gone }, asked().ask)).rejects.toThrow("the connection is gone")
})

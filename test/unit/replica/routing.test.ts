// Which replica a session gets.
import { expect, test } from "vitest"
import { type Choice, chooseReplica, type Wanted } from "../../../src/replica/routing.ts"

const PROMPT = Array.from({ length: 40 }, (_, i) => i)
const ROOM = 100

type Replica = Choice & { readonly name: string }

const replica = (name: string, load: number, more: Partial<Choice> = {}): Replica => ({
  ...{ name, epoch: name.charCodeAt(0), draining: false, models: {}, reserved: 0, load: () => load, shared: () => 0 },
  ...more,
})
const chosen = (replicas: ReadonlyArray<Replica>, wanted: Partial<Wanted<Replica>> = {}): string | undefined =>
  chooseReplica(replicas, { prompt: PROMPT, tokens: 50, own: null, current: true, ...wanted }, () => ROOM)?.name

test("the least loaded that is ready and has room; the oldest of equals", () => {
  expect(chosen([replica("b", 1), replica("a", 1), replica("c", 2)])).toBe("a")
  expect(chosen([replica("a", 0, { models: null }), replica("b", 5)])).toBe("b")
  expect(chosen([replica("a", 1, { reserved: 51 }), replica("b", 5, { reserved: 50 })])).toBe("b")
  expect(chosen([replica("a", 1, { reserved: 51 })])).toBeUndefined()
  expect(chosen([replica("a", 0)], { tokens: ROOM + 1 })).toBe("a") // it runs alone
})

test("where the prompt's KV is, unless that one is far busier", () => {
  const holds = (tokens: number) => ({ shared: (prompt: ReadonlyArray<number>) => (prompt === PROMPT ? tokens : 0) })
  expect(chosen([replica("a", 0), replica("b", 2, holds(30))])).toBe("b")
  expect(chosen([replica("a", 0), replica("b", 3, holds(30))])).toBe("a")
  expect(chosen([replica("a", 0, holds(20)), replica("b", 1, holds(30))])).toBe("b")
  expect(chosen([replica("a", 0), replica("b", 2, { ...holds(30), reserved: 60 })])).toBe("a")
})

test("one that drains, only for its own, or where no other comes", () => {
  const [leaving, staying] = [replica("a", 0, { draining: true, shared: () => 30 }), replica("b", 2)]
  expect(chosen([leaving])).toBeUndefined()
  expect(chosen([leaving], { own: leaving })).toBe("a")
  expect(chosen([leaving], { current: false })).toBe("a")
  expect(chosen([leaving, staying], { own: leaving })).toBe("b")
})

// The session whose KV a prompt may begin with.
import fc from "fast-check"
import { expect, test } from "vitest"
import { BLOCK, type Prefix, PrefixIndex } from "../../../src/generation/prefixes.ts"

const words = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
const prefix = (session: string, tokens: ReadonlyArray<number>, more: Partial<Prefix> = {}): Prefix => ({
  ...{ session, kv: `${session}.2`, tokens, base: tokens.length, draft: tokens.length },
  ...more,
})
const indexOf = (...all: ReadonlyArray<Prefix>): PrefixIndex => {
  const index = new PrefixIndex()
  for (const one of all) index.add(one)
  return index
}

test("is the one that began alike for longest", () => {
  const index = indexOf(prefix("short", words(0, 20)), prefix("long", words(0, 40)), prefix("other", words(5, 90)))
  expect(index.longest(words(0, 60))).toEqual({ session: "long", kv: "long.2", base: 40, draft: 40 })
})

test("gives no more than either group holds, and leaves the last token, which needs no KV", () => {
  const index = indexOf(prefix("a", words(0, 40), { base: 38, draft: 17 }))
  expect(index.longest(words(0, 60))).toEqual({ session: "a", kv: "a.2", base: 38, draft: 17 })
  expect(index.longest(words(0, 30))).toEqual({ session: "a", kv: "a.2", base: 29, draft: 17 })
  expect(indexOf(prefix("a", words(0, 40), { draft: 0 })).longest(words(0, 60))).toMatchObject({ draft: 0 })
})

test("is none for a few tokens, and none that was dropped", () => {
  const one = prefix("a", words(0, 40))
  const index = indexOf(one)
  expect(index.longest([...words(0, 15), ...words(50, 90)])).toBeNull()
  expect(new PrefixIndex().longest(words(0, 60))).toBeNull()
  index.delete(one)
  expect(index.longest(words(0, 60))).toBeNull()
})

test("a later turn has what the earlier ones have, where both groups have as much of it", () => {
  const [first, other, last] = [prefix("a", words(0, 30)), prefix("b", words(9, 50)), prefix("c", words(0, 60))]
  expect(indexOf(first, other, last).within(last)).toEqual([first])
  expect(indexOf(first, last).within(first)).toEqual([])
  const drafted = prefix("d", words(0, 30), { draft: 30 })
  expect(indexOf(drafted).within({ ...last, draft: 29 })).toEqual([])
})

test("whatever comes and goes, the index finds what looking at each would", () => {
  // Few words, so that much begins alike, and ends within a block or at its end.
  const text = fc
    .tuple(fc.constantFrom(0, 1), fc.integer({ min: 0, max: 60 }), fc.array(fc.constantFrom(0, 1), { maxLength: 24 }))
    .map(([word, length, more]) => [...new Array<number>(length).fill(word), ...more])
  const prefixes = fc.array(fc.tuple(text, fc.boolean()), { maxLength: 30 })
  fc.assert(
    fc.property(prefixes, text, (all, prompt) => {
      const index = new PrefixIndex()
      const made = all.map(([tokens, stays], i) => ({ one: prefix(`${i}`, tokens), stays }))
      for (const { one } of made) index.add(one)
      for (const { one, stays } of made) if (!stays) index.delete(one)
      const common = (tokens: ReadonlyArray<number>) => {
        const at = tokens.findIndex((token, i) => token !== prompt[i])
        return Math.min(at < 0 ? tokens.length : at, prompt.length - 1)
      }
      const shared = Math.max(0, ...made.filter(({ stays }) => stays).map(({ one }) => common(one.tokens)))
      expect(index.longest(prompt)?.base ?? 0).toBe(shared < BLOCK ? 0 : shared)
    }),
    { numRuns: 1000 },
  )
})

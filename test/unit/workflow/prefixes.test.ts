import { describe, expect, test } from "vitest"
import { longest, type Prefix } from "../../../src/workflow/prefixes.ts"

const words = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
const prefix = (session: string, tokens: ReadonlyArray<number>, more: Partial<Prefix> = {}): Prefix => ({
  ...{ session, kv: `${session}.2`, tokens, base: tokens.length, draft: tokens.length },
  ...more,
})

describe("the session whose KV a prompt may begin with", () => {
  test("is the one that began alike for longest", () => {
    const all = [prefix("short", words(0, 20)), prefix("long", words(0, 40)), prefix("other", words(5, 90))]
    expect(longest(all, words(0, 60))).toEqual({ session: "long", kv: "long.2", base: 40, draft: 40 })
  })

  test("gives no more than either group holds, and leaves the last token, which needs no KV", () => {
    const one = prefix("a", words(0, 40), { base: 38, draft: 17 })
    expect(longest([one], words(0, 60))).toEqual({ session: "a", kv: "a.2", base: 38, draft: 17 })
    expect(longest([one], words(0, 30))).toEqual({ session: "a", kv: "a.2", base: 29, draft: 17 })
    expect(longest([prefix("a", words(0, 40), { draft: 0 })], words(0, 60))).toMatchObject({ draft: 0 })
  })

  test("is none for a few tokens", () => {
    expect(longest([prefix("a", words(0, 40))], [...words(0, 15), ...words(50, 90)])).toBeNull()
    expect(longest([], words(0, 60))).toBeNull()
  })
})

// Merging by tables of numbers gives what merging by the definition gives: join the pair of the least rank, the leftmost of
// equals, until there is none.
import fc from "fast-check"
import { expect, test } from "vitest"
import { type Merge, Merges } from "../../../../src/model/tokenizer/merges.ts"
import { Symbols } from "../../../../src/model/tokenizer/symbols.ts"

const byDefinition = (merges: ReadonlyArray<readonly [string, string]>, piece: string): ReadonlyArray<string> => {
  const rankOf = (left: string, right: string) => merges.findLastIndex(([a, b]) => a === left && b === right)
  const tokens = Array.from(piece)
  for (;;) {
    const ranks = tokens.slice(1).map((right, i) => rankOf(tokens[i] ?? "", right))
    const least = Math.min(...ranks.filter((rank) => rank >= 0))
    if (least === Number.POSITIVE_INFINITY) return tokens
    const at = ranks.indexOf(least)
    tokens.splice(at, 2, `${tokens[at]}${tokens[at + 1]}`)
  }
}

const byTables = (merges: ReadonlyArray<Merge>, piece: string): ReadonlyArray<string> => {
  const symbols = new Symbols()
  for (const character of "abcd") symbols.add(character)
  const table = new Merges(symbols, merges)
  const joined = Int32Array.from(Array.from(piece, (character) => symbols.find(character)))
  return Array.from(joined.subarray(0, table.join(joined)), (symbol) => symbols.text(symbol))
}

const text = (most: number) => fc.string({ unit: fc.constantFrom("a", "b", "c", "d"), minLength: 1, maxLength: most })

test("joins as the definition says, whatever the merges", () => {
  const merge = fc.tuple(text(3), text(3))
  fc.assert(
    fc.property(fc.array(merge, { maxLength: 60 }), text(40), (merges, piece) => {
      const expected = byDefinition(merges, piece)
      expect(byTables(merges, piece)).toEqual(expected)
      const written = merges.map(([left, right]) => `${left} ${right}`)
      expect(byTables(written, piece)).toEqual(expected)
    }),
  )
})

test("symbols are found again, however many there are", () => {
  const symbols = new Symbols()
  const texts = Array.from({ length: 5_000 }, (_, i) => `${i * 7_919}`)
  expect(texts.map((text) => symbols.add(text))).toEqual(texts.map((_, i) => i))
  expect(texts.map((text) => symbols.find(text))).toEqual(texts.map((_, i) => i))
  expect(symbols.find("none")).toBe(-1)
  expect(symbols.add("7919")).toBe(1)
  expect(symbols.size).toBe(texts.length)
})

// What is unknown in a request is found by comparing it with what was understood, and named as a header can hold it.
import fc from "fast-check"
import { expect, test } from "vitest"
import { strangersIn } from "../../../src/gateway/strangers.ts"

test("fields that were left out are named with their place, each once", () => {
  const known = { a: 1, list: [{ b: 2 }, { b: 3 }], kept: { any: 1 } }
  const given = {
    ...known,
    list: [
      { b: 2, mood: 1 },
      { b: 3, mood: 2, tempo: 3 },
    ],
    tempo: { deep: 1 },
    "": 1,
  }
  expect(strangersIn(given, known)).toEqual(["list[].mood", "list[].tempo", "tempo", ""])
  expect(strangersIn(known, known)).toEqual([])
  expect(strangersIn(JSON.parse('{"__proto__": 1, "toString": 2}'), {})).toEqual(["__proto__", "toString"])
})

test("a name is what a header may hold, however long and strange it is", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 300 }), (name) => {
      const [said = ""] = strangersIn({ [name]: 1 }, {})
      expect(said).toMatch(/^[\x21-\x7e]{0,64}$/)
    }),
  )
})

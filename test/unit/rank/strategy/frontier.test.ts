// The rows of a draft step: what the leader packs is what the others run.
import fc from "fast-check"
import { expect, test } from "vitest"
import { packFrontier, unpackFrontier } from "../../../../src/rank/strategy/frontier.ts"

const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })

test("a frontier survives the wire at any alignment", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(int32, int32)), fc.nat(7), (rows, offset) => {
      const tokens = Int32Array.from(rows, ([token]) => token)
      const parents = Int32Array.from(rows, ([, parent]) => parent)
      const packed = packFrontier(["s"], [{ session: "s", tokens, parents }])
      const buffer = new Uint8Array(packed.byteLength + offset)
      buffer.set(packed, offset)
      const found = unpackFrontier(["s"], buffer.subarray(offset))
      expect(found).toEqual(rows.length === 0 ? [] : [{ session: "s", tokens, parents }])
    }),
  )
})

test("frontiers of several sessions come apart again, and one that has no rows any more is left out", () => {
  fc.assert(
    fc.property(fc.array(fc.array(fc.tuple(int32, int32), { maxLength: 5 }), { minLength: 2, maxLength: 6 }), (all) => {
      const sessions = all.map((_, i) => `s${i}`)
      const rows = all.flatMap((rows, i) =>
        rows.length === 0
          ? []
          : [
              {
                session: `s${i}`,
                tokens: Int32Array.from(rows, ([token]) => token),
                parents: Int32Array.from(rows, ([, parent]) => parent),
              },
            ],
      )
      expect(unpackFrontier(sessions, packFrontier(sessions, rows))).toEqual(rows)
    }),
  )
})

// The rows of a draft step: what the leader packs is what the others run.
import fc from "fast-check"
import { expect, test } from "vitest"
import { packFrontier, unpackFrontier } from "../../../src/rank/frontier.ts"

const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })

test("a frontier survives the wire at any alignment", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(int32, int32)), fc.nat(7), (rows, offset) => {
      const tokens = Int32Array.from(rows, ([token]) => token)
      const parents = Int32Array.from(rows, ([, parent]) => parent)
      const packed = packFrontier({ session: "s", tokens, parents })
      const buffer = new Uint8Array(packed.byteLength + offset)
      buffer.set(packed, offset)
      expect(unpackFrontier("s", buffer.subarray(offset))).toEqual({ session: "s", tokens, parents })
    }),
  )
})

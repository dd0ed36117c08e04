// The walk that a message has to pass before it is unpacked: it lets through what msgpack can say, and refuses what is cut
// off, nested without end, larger than it is, or of a type that no message has, at no cost.
import fc from "fast-check"
import { Packr } from "msgpackr"
import { expect, test } from "vitest"
import { codec } from "../../../src/wire/codec.ts"
import { InferRequest } from "../../../src/wire/infer.ts"
import { flawOf } from "../../../src/wire/msgpack.ts"

const packr = new Packr({ useRecords: false })

/** What JSON can say, and bytes: no undefined, dates or sets, for which msgpack has types of its own. */
const values = fc.letrec((tie) => ({
  any: fc.oneof(
    { maxDepth: 5 },
    fc.oneof(fc.string({ unit: "grapheme" }), fc.integer(), fc.double(), fc.boolean(), fc.constant(null)),
    fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.string({ minLength: 250 }),
    ),
    fc.array(tie("any"), { maxLength: 20 }),
    fc.dictionary(fc.string(), tie("any"), { maxKeys: 20 }),
  ),
})).any

test("whatever msgpack says is let through, and nothing that is a part of it or more", () => {
  fc.assert(
    fc.property(values, fc.nat(), (value, at) => {
      const message = packr.pack(value)
      expect(flawOf(message)).toBeNull()
      expect(flawOf(message.subarray(0, at % message.byteLength))).toMatch(/^ends too early/)
      expect(flawOf(Buffer.concat([message, message]))).toBe(`${message.byteLength} bytes too many at its end`)
    }),
    { numRuns: 500 },
  )
})

test("what it lets through can be unpacked, whatever the bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      if (flawOf(bytes) === null) packr.unpack(bytes)
    }),
    { numRuns: 5_000 },
  )
})

const repeated = (unit: ReadonlyArray<number>, times: number) =>
  Uint8Array.from({ length: unit.length * times }, (_, i) => unit[i % unit.length] ?? 0)

const flaws: ReadonlyArray<readonly [string, Uint8Array, RegExp]> = [
  ["nothing", new Uint8Array(0), /^ends too early, at byte 0/],
  ["arrays in arrays", repeated([0x91], 1_000_000), /^nested deeper than 32/],
  ["maps in maps", repeated([0x81, 0xa1, 0x61], 500_000), /^nested deeper than 32/],
  ["an array of 4 billion", Uint8Array.from([0xdd, 0xff, 0xff, 0xff, 0xff, 1]), /^ends too early/],
  ["a map of 4 billion", Uint8Array.from([0xdf, 0xff, 0xff, 0xff, 0xff, 1, 2]), /^ends too early/],
  ["a string of 4 billion", Uint8Array.from([0xdb, 0xff, 0xff, 0xff, 0xff, 1, 2]), /^ends too early/],
  ["a size that is cut off", Uint8Array.from([0xdd, 0xff]), /^ends too early/],
  ["an extension", Uint8Array.from([0xd4, 0, 0]), /^a type that no message has, at byte 0/],
  ["an extension within", Uint8Array.from([0x91, 0xc7, 1, 0x72, 0]), /^a type that no message has, at byte 1/],
  ["a key that is a number", Uint8Array.from([0x81, 1, 1]), /^a key that is no text, at byte 1/],
  ["a key that is an array", Uint8Array.from([0xde, 0, 1, 0x91, 1, 1]), /^a key that is no text, at byte 3/],
  ["the byte that msgpack never uses", Uint8Array.from([0xc1]), /^a type that no message has/],
]
test.each(flaws)("%s", (_, message, flaw) => {
  expect(flawOf(message)).toMatch(flaw)
})

test("an error is short, whatever was sent, and a large message is told one thing that is wrong", () => {
  const requests = codec("infer request", InferRequest, { mostBytes: 2 ** 20 })
  const refused = (value: unknown) => {
    const decoded = requests.decode(packr.pack(value))
    if (decoded._tag === "Success") throw new Error("it was let through")
    return decoded.failure
  }
  const many = refused({ tokens: Array.from({ length: 100_000 }, () => "x"), maxTokens: "y" })
  expect(many.field).toBe("tokens[0]")
  expect(many.reason.length).toBeLessThan(200)
  expect(refused({ ["k".repeat(100_000)]: 1 }).reason.length).toBeLessThan(600)
  const { reason } = refused({ prompt: 1, topK: "x" })
  expect([reason.includes('["prompt"]'), reason.includes('["topK"]')]).toEqual([true, true])
  expect(refused({ prompt: "x".repeat(2 ** 20) }).reason).toMatch(/^has \d+ bytes, at most 1048576 are read/)
})

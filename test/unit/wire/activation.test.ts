// The hot path's fixed records: what is encoded is decoded, at any alignment, and whatever else comes is refused by field.
import { Result } from "effect"
import fc from "fast-check"
import { expect, test } from "vitest"
import { type Activation, decode, encode, HEADER_BYTES } from "../../../src/wire/activation.ts"
import { decode as decodePart, isPart, PART_HEADER_BYTES, partsOf, split } from "../../../src/wire/part.ts"

const u16 = fc.nat(0xffff)
const u32 = fc.nat(0xffffffff)
const small = fc.nat(5)
const activations: fc.Arbitrary<Activation> = fc
  .record({ blocks: small, tokens: small, width: small })
  .chain(({ blocks, tokens, width }) => {
    const bytes = 4 * blocks * tokens * width
    return fc.record({
      ...{ epoch: u32, pass: u32, attempt: u16, step: u16, rank: u16, messages: u32, bytes: fc.maxSafeNat() },
      ...{ blocks: fc.constant(blocks), tokens: fc.constant(tokens), width: fc.constant(width) },
      nodes: fc.uint8Array({ maxLength: 40 }),
      values: fc.uint8Array({ minLength: bytes, maxLength: bytes }),
    })
  })

/** The message as NATS delivers it: somewhere within a larger buffer. */
const within = (message: Uint8Array, offset: number): Uint8Array => {
  const buffer = new Uint8Array(message.byteLength + offset + 3)
  buffer.set(message, offset)
  return buffer.subarray(offset, offset + message.byteLength)
}

test("an activation survives the wire at any alignment", () => {
  fc.assert(
    fc.property(activations, fc.nat(9), (activation, offset) => {
      const decoded = Result.getOrThrow(decode(within(encode(activation), offset)))
      expect({ ...decoded, nodes: [...decoded.nodes], values: [...decoded.values] }).toEqual({
        ...activation,
        nodes: [...activation.nodes],
        values: [...activation.values],
      })
    }),
  )
})

test("any truncation of an activation is refused", () => {
  fc.assert(
    fc.property(activations, fc.nat(), (activation, cut) => {
      const message = encode(activation)
      const short = message.subarray(0, cut % message.byteLength)
      expect(Result.isFailure(decode(short))).toBe(true)
    }),
  )
})

test("a refusal names the field, what was expected, and what came", () => {
  const activation: Activation = {
    ...{ epoch: 1, pass: 2, attempt: 3, step: 4, rank: 5, blocks: 1, tokens: 2, width: 3, messages: 0, bytes: 0 },
    ...{ nodes: new Uint8Array(0), values: new Uint8Array(24) },
  }
  const failureOf = (message: Uint8Array) => Result.getOrThrow(Result.flip(decode(message))).message
  expect(failureOf(new Uint8Array(7))).toBe(`malformed activation: header: expected ${HEADER_BYTES} bytes, got 7`)
  const long = new Uint8Array(HEADER_BYTES + 25)
  long.set(encode(activation))
  expect(failureOf(long)).toBe("malformed activation: values: expected 72 bytes in all, got 73")
  const old = encode(activation)
  old[0] = 9
  expect(failureOf(old)).toBe("malformed activation: mark: expected 1, got 9")
})

test("parts are within max_payload and make the activation again in any order", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 400 }),
      fc.integer({ min: PART_HEADER_BYTES + 1, max: 200 }),
      (message, maxPayload) => {
        const of = { epoch: 1, pass: 2, attempt: 3, step: 4, rank: 5 }
        if (partsOf(message.byteLength, maxPayload) === 1) return
        const messages = split(of, [message], maxPayload)
        expect(messages.length).toBe(partsOf(message.byteLength, maxPayload))
        expect(Math.max(...messages.map(({ byteLength }) => byteLength))).toBeLessThanOrEqual(maxPayload)
        const parts = messages.map((part, i) => {
          expect(isPart(part)).toBe(true)
          return Result.getOrThrow(decodePart(within(part, i % 5)))
        })
        expect(parts.map(({ index }) => index)).toEqual([...parts.keys()])
        expect(Buffer.concat(parts.map(({ piece }) => piece)).equals(message)).toBe(true)
      },
    ),
  )
})

test("an activation is not taken for a part, and a part that cannot be one is refused by field", () => {
  fc.assert(fc.property(activations, (activation) => !isPart(encode(activation))))
  const [part] = split({ epoch: 1, pass: 2, attempt: 3, step: 4, rank: 5 }, [new Uint8Array(90)], 60)
  if (part === undefined) throw new Error("no parts")
  const failureOf = (change: (view: DataView) => void, bytes = part.byteLength) => {
    const copy = part.slice(0, bytes)
    change(new DataView(copy.buffer))
    return Result.getOrThrow(Result.flip(decodePart(copy))).field
  }
  expect(failureOf(() => {}, PART_HEADER_BYTES)).toBe("piece")
  expect(failureOf((view) => view.setUint16(0, 1, true))).toBe("mark")
  expect(failureOf((view) => view.setUint32(20, 1, true))).toBe("count")
  expect(failureOf((view) => view.setUint32(16, 99, true))).toBe("index")
})

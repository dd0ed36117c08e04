// KV deltas on the wire: whole or in parts, in order or with one lost, and what is no delta.
import { Result } from "effect"
import { describe, expect, test } from "vitest"
import { Assembly, encode, type KvDelta } from "../../../src/wire/kv.ts"

const delta: KvDelta = {
  ...{ _tag: "KvDelta", session: "s\u00e9ance", epoch: 3, group: "base", rank: 1, from: 0, count: 2 },
  sampling: { temperature: 0.8, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 2n ** 64n - 1n },
  values: Uint8Array.from({ length: 5000 }, (_, i) => i % 251),
}
const received = (assembly: Assembly, messages: ReadonlyArray<Uint8Array>) =>
  messages.map((message) => Result.getOrThrow(assembly.deliver(message)))

describe("a delta", () => {
  test("is one message where that is allowed", () => {
    const messages = encode(delta, 0, 2 ** 20)
    expect(messages.length).toBe(1)
    expect(received(new Assembly(), messages)).toEqual([delta])
  })

  test("tells what its session samples with only with the first rows", () => {
    const later = received(new Assembly(), encode({ ...delta, from: 7 }, 0, 2 ** 20))
    expect(later).toEqual([{ ...delta, from: 7, sampling: null }])
  })

  test("that is not there is said in a word", () => {
    const lacking = { _tag: "KvLacking", session: "s", epoch: 3, rank: 1, from: 7, count: 5 } as const
    expect(received(new Assembly(), encode(lacking, 0, 2 ** 20))).toEqual([lacking])
  })

  test("comes in parts of the size that the server takes, and is whole with the last one", () => {
    const messages = encode(delta, 4, 1024)
    expect(messages.length).toBe(6)
    expect(Math.max(...messages.map(({ byteLength }) => byteLength))).toBeLessThanOrEqual(1024)
    const [last, ...before] = received(new Assembly(), messages).reverse()
    expect(before).toEqual([null, null, null, null, null])
    expect(last).toEqual(delta)
  })

  test("that lost a part is dropped, and the next one is whole again", () => {
    const assembly = new Assembly()
    const lossy = [...encode(delta, 4, 1024).toSpliced(2, 1), ...encode({ ...delta, from: 9 }, 5, 1024)]
    expect(received(assembly, lossy).filter((one) => one !== null)).toMatchObject([{ from: 9 }])
  })

  test("that is none is refused with what is wrong", () => {
    const [whole = new Uint8Array()] = encode(delta, 0, 2 ** 20)
    const [part = new Uint8Array()] = encode(delta, 0, 1024)
    for (const message of [
      whole.subarray(0, 27),
      whole.subarray(0, 40),
      part.subarray(0, 20),
      Uint8Array.of(1, 2, 3),
      new Uint8Array(),
    ]) {
      const refused = new Assembly().deliver(message)
      expect(Result.isFailure(refused) && refused.failure._tag).toBe("MalformedMessage")
    }
  })
})

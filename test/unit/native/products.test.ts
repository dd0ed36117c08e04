// Products with quantised matrices and with narrow ones of bf16, against the formats' definition: on a CPU with kernels of our
// own those, elsewhere ggml's. A model of no layers is its embedding, a norm and the matrix.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, test } from "vitest"
import { type EngineOptions, native, type TensorSource } from "../../../native/index.ts"
import { argmax, chain } from "./shards.ts"

const folder = mkdtempSync(join(tmpdir(), "chorus-products-"))
afterAll(() => rmSync(folder, { recursive: true }))

const INPUTS = 768 // three blocks
const OUTPUTS = 96 // and tokens
const BLOCK = 256 // of the K types
const ROWS = 24

/** Numbers from 0 to 1 that are the same in every run. */
const random = (seed: number) => {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

const half = (bytes: DataView, at: number, value: number) => bytes.setFloat16(at, value, true)
const readHalf = (bytes: DataView, at: number): number => bytes.getFloat16(at, true)

/** 6-bit scales and minima of q4_K and q5_K, eight of each in twelve bytes. */
const scaleOf = (at: (i: number) => number, j: number): readonly [number, number] =>
  j < 4
    ? [at(j) & 63, at(j + 4) & 63]
    : [(at(j + 4) & 15) | ((at(j - 4) >> 6) << 4), (at(j + 4) >> 4) | ((at(j) >> 6) << 4)]

interface Format {
  readonly inputs: number // of a block
  readonly bytes: number
  readonly halves: ReadonlyArray<number> // where its f16 factors are
  readonly value: (block: DataView, i: number) => number
  /** By how much a product may change an activation, the largest of whose block is `most`. */
  readonly rounding: (x: number, most: number) => number
}

const to8Bits = (_: number, most: number): number => most / 127 / 2

/** Blocks of 32, whose activations have a scale of 16 bits. */
const of32 = (bits: 4 | 5 | 8, minima: boolean): Format => ({
  inputs: 32,
  bytes: (minima ? 4 : 2) + (bits === 5 ? 4 : 0) + (bits === 8 ? 32 : 16),
  halves: minima ? [0, 2] : [0],
  value: (block, i) => {
    const high = minima ? 4 : 2
    const low = high + (bits === 5 ? 4 : 0)
    if (bits === 8) return readHalf(block, 0) * block.getInt8(low + i)
    const byte = block.getUint8(low + (i & 15))
    const upper = bits === 5 ? (block.getUint8(high + (i >> 3)) >> (i & 7)) & 1 : 0
    const quant = (i < 16 ? byte & 15 : byte >> 4) + 16 * upper
    return minima ? readHalf(block, 0) * quant + readHalf(block, 2) : readHalf(block, 0) * (quant - 2 ** (bits - 1))
  },
  rounding: (x, most) => most / 127 / 2 + Math.abs(x) / 1024,
})

const kFormat = (fiveBits: boolean): Format => ({
  inputs: BLOCK,
  bytes: fiveBits ? 176 : 144,
  halves: [0, 2],
  value: (block, i) => {
    const [scale, minimum] = scaleOf((j) => block.getUint8(4 + j), i >> 5)
    const byte = block.getUint8((fiveBits ? 48 : 16) + 32 * (i >> 6) + (i & 31))
    const low = (i >> 5) % 2 === 0 ? byte & 15 : byte >> 4
    const high = fiveBits ? (block.getUint8(16 + (i & 31)) >> (i >> 5)) & 1 : 0
    return readHalf(block, 0) * scale * (low + 16 * high) - readHalf(block, 2) * minimum
  },
  rounding: to8Bits,
})

/** The upper half of a float; as many inputs as the other formats' blocks have. */
const BF16: Format = {
  inputs: BLOCK,
  bytes: 2 * BLOCK,
  halves: [],
  value: (block, i) => {
    const bits = new DataView(new ArrayBuffer(4))
    bits.setUint16(0, block.getUint16(2 * i, true))
    return bits.getFloat32(0)
  },
  rounding: (x) => Math.abs(x) / 256,
}

const FORMATS: Readonly<Record<string, Format>> = {
  q4_K: kFormat(false),
  q5_K: kFormat(true),
  q6_K: {
    inputs: BLOCK,
    bytes: 210,
    halves: [208],
    value: (block, i) => {
      const [part, at] = [i >> 7, i & 127]
      const byte = block.getUint8(64 * part + (at & 63))
      const low = at < 64 ? byte & 15 : byte >> 4
      const high = (block.getUint8(128 + 32 * part + (at & 31)) >> (2 * (at >> 5))) & 3
      return readHalf(block, 208) * block.getInt8(192 + (i >> 4)) * (low + 16 * high - 32)
    },
    rounding: to8Bits,
  },
  q4_0: of32(4, false),
  q4_1: of32(4, true),
  q5_0: of32(5, false),
  q5_1: of32(5, true),
  q8_0: of32(8, false),
  bf16: BF16,
}

const make = (type: string, { inputs, bytes, halves, value }: Format) => {
  const chance = random(bytes)
  const matrix = new Uint8Array((OUTPUTS * INPUTS * bytes) / inputs).map(() => chance() * 256)
  const blocks = Array.from({ length: matrix.length / bytes }, (_, b) => new DataView(matrix.buffer, b * bytes, bytes))
  for (const block of blocks) for (const at of halves) half(block, at, 0.01 + chance() / 50)
  // Any bits are a number of the K types; of bf16 those with a small exponent, here.
  if (type === "bf16") for (let i = 1; i < matrix.length; i += 2) matrix[i] = ((matrix[i] ?? 0) & 0x80) | 0x3d
  const embedding = Float32Array.from({ length: OUTPUTS * INPUTS }, () => chance() - 0.5)
  const norm = Float32Array.from({ length: INPUTS }, () => 1)
  const parts: ReadonlyArray<readonly [string, string, Uint8Array, ReadonlyArray<number>]> = [
    ["token_embd.weight", "f32", new Uint8Array(embedding.buffer), [INPUTS, OUTPUTS]],
    ["output_norm.weight", "f32", new Uint8Array(norm.buffer), [INPUTS]],
    ["output.weight", type, matrix, [INPUTS, OUTPUTS]],
  ]
  const file = join(folder, type)
  writeFileSync(file, Buffer.concat(parts.map(([, , data]) => data)))
  let offset = 0
  const tensors = parts.map(([name, type, { length: bytes }, shape]): TensorSource => {
    offset += bytes
    return { name, file, offset: offset - bytes, bytes, type, shape }
  })
  const weight = (output: number, input: number) => {
    const block = blocks[((output * INPUTS + input) / inputs) | 0]
    return block === undefined ? Number.NaN : value(block, input % inputs)
  }
  return { tensors, embedding, weight }
}

const optionsOf = (tensors: ReadonlyArray<TensorSource>, threads: number): EngineOptions => ({
  shape: {
    architecture: "llama",
    ...{ layers: 1, width: INPUTS, heads: 12, kvHeads: 12, headDim: 64, ffn: INPUTS, vocab: OUTPUTS, context: 64 },
    ...{ normEps: 1e-6, ropeTheta: 10_000, ropeDim: 64, ropePairs: "halves", ropeFactors: null },
  },
  tensors,
  shard: { attention: [], mlp: [], embed: true, head: true },
  device: "CPU",
  ...{ threads, deterministic: true, kvType: "f16" },
})

/** The logits of tokens as rows of one batch. */
const logits = async (tensors: ReadonlyArray<TensorSource>, tokens: ReadonlyArray<number>, threads = 1) => {
  const engine = await native.load(optionsOf(tensors, threads))
  engine.open("s", argmax)
  const pass = engine.begin([{ session: "s", tokens: Int32Array.from(tokens), parents: chain(0, tokens.length) }])
  const result = await pass.run([{ op: "embed" }, { op: "head", rows: Int32Array.from(tokens.keys()), want: "logits" }])
  pass.end()
  engine.dispose()
  const all = result.logits ?? new Float32Array(0)
  return tokens.map((_, row) => all.subarray(row * OUTPUTS, (row + 1) * OUTPUTS))
}

describe.each(Object.entries(FORMATS))("%s", (type, format) => {
  const { tensors, embedding, weight } = make(type, format)
  const every = Array.from({ length: ROWS }, (_, token) => token)

  test("a product is the definition's, but for the rounding of activations", async () => {
    const rows = await logits(tensors, every)
    for (const [token, row] of rows.entries()) {
      const h = embedding.subarray(token * INPUTS, (token + 1) * INPUTS)
      const rms = Math.sqrt(h.reduce((sum, x) => sum + x * x, 0) / INPUTS + 1e-6)
      for (let output = 0; output < OUTPUTS; output++) {
        let [exact, bound] = [0, 1e-3]
        for (let from = 0; from < INPUTS; from += format.inputs) {
          const x = Array.from(h.subarray(from, from + format.inputs), (value) => value / rms)
          const most = Math.max(...x.map(Math.abs))
          for (const [i, value] of x.entries()) {
            const w = weight(output, from + i)
            exact += w * value
            bound += Math.abs(w) * format.rounding(value, most)
          }
        }
        expect(Math.abs((row[output] ?? Number.NaN) - exact)).toBeLessThan(bound * 1.001)
      }
    }
  })

  test("a row is the same bits alone, among any others, and on two threads", async () => {
    const rows = await logits(tensors, every)
    for (const count of [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 17]) {
      const some = every.slice(-count)
      expect(await logits(tensors, some, 1 + (count % 2))).toEqual(rows.slice(-count))
    }
  })
})

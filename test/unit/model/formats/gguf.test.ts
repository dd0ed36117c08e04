// GGUF files: what is read from a sound one, and the message for each way of not being one.
import { describe, expect, test } from "vitest"
import { readGguf } from "../../../../src/model/formats/gguf.ts"
import { isWeightType, tensorTypes } from "../../../../src/model/formats/weights.ts"
import {
  type Gguf,
  type GgufTensor,
  gguf,
  opened,
  refused,
  tinyConfig,
  tinyGgufTensors,
  writeFolder,
  writeGguf,
} from "../fixtures.ts"

describe("a sound file", () => {
  test.each(["llama", "qwen2", "qwen3"])("%s has the shape of the same model as a folder", async (architecture) => {
    const model = await opened(writeGguf({ metadata: { "general.architecture": architecture } }))
    const folder = await opened(writeFolder({ config: tinyConfig(architecture) }))
    expect(model).toMatchObject({ name: "model", format: "gguf", architecture, context: 64 })
    expect(model.shape).toEqual({
      ...folder.shape,
      normEps: Math.fround(1e-6),
      ropeTheta: 10_000.5,
      ropePairs: architecture === "llama" ? "neighbours" : "halves",
    })
    const shapes = ({ tensors }: typeof model) => new Map(tensors.map(({ name, shape }) => [name, shape]))
    expect(shapes(model)).toEqual(shapes(folder))
  })

  test("a tensor's place is where its bytes are", () => {
    const content = Buffer.from("0123456789abcdef".repeat(2))
    const tensors = [
      { name: "first", shape: [3], type: "f32" },
      { name: "second", shape: [8], type: "f32", content },
    ]
    const bytes = gguf({ tensors })
    const [, second] = readGguf(writeGguf(bytes)).tensors
    expect(bytes.subarray(second?.offset, (second?.offset ?? 0) + 32).equals(content)).toBe(true)
    expect(second).toMatchObject({ name: "second", bytes: 32, type: "f32", shape: [8] })
  })

  test("every type of ggml's is measured", () => {
    const all = Array.from(tensorTypes.values(), ({ name, block }) => ({ name, shape: [2 * block, 3], type: name }))
    const read = readGguf(writeGguf({ tensors: all })).tensors
    expect(read.map(({ type }) => type)).toEqual(all.map(({ type }) => type))
    for (const [i, { bytes }] of Array.from(tensorTypes.values()).entries()) expect(read[i]?.bytes).toBe(6 * bytes)
  })

  test("weights may be of any weight type", async () => {
    for (const { name: type, block } of tensorTypes.values()) {
      if (!isWeightType(type) || block > 256) continue
      const metadata = { ...sized(256), "llama.context_length": 32 }
      const tensors = sizedTensors(256, type)
      const model = await opened(writeGguf({ metadata, tensors }))
      expect(model.tensors.find(({ name }) => name === "blk.0.ffn_up.weight")?.type).toBe(type)
    }
  })

  test("Llama 3's divisors come from their tensor", async () => {
    const content = Buffer.alloc(8)
    content.writeFloatLE(1, 0)
    content.writeFloatLE(8, 4)
    const factors: GgufTensor = { name: "rope_freqs.weight", shape: [2], type: "f32", content }
    const model = await opened(writeGguf({ tensors: [...tinyGgufTensors("llama"), factors] }))
    expect(model.shape.ropeFactors).toEqual(Float32Array.of(1, 8))
    expect(model.tensors.some(({ name }) => name === "rope_freqs.weight")).toBe(false)
  })

  test("an output matrix unties the head", async () => {
    const head = { name: "output.weight", shape: [8, 256], type: "f16" }
    const { tensors } = await opened(writeGguf({ tensors: [...tinyGgufTensors("llama"), head] }))
    expect(tensors.find(({ name }) => name === "output.weight")?.type).toBe("f16")
  })
})

describe("a file that is refused", () => {
  const rename = (from: string, patch: Partial<GgufTensor>): Gguf => ({
    tensors: tinyGgufTensors("llama").map((tensor) => (tensor.name === from ? { ...tensor, ...patch } : tensor)),
  })
  const UP = "blk.1.ffn_up.weight"
  const cases: ReadonlyArray<readonly [why: string, content: Gguf, message: string]> = [
    [
      "unknown architecture",
      { metadata: { "general.architecture": "mamba" }, tensors: [] },
      'is not supported: its architecture is "mamba"; Chorus runs llama, qwen2, qwen3',
    ],
    ["no architecture", { metadata: { "general.architecture": undefined } }, "entry general.architecture is missing"],
    ["missing entry", { metadata: { "llama.block_count": undefined } }, "metadata entry llama.block_count is missing"],
    ["entry of another kind", { metadata: { "llama.block_count": "2" } }, "entry llama.block_count is not one number"],
    ["heads by layer", { metadata: { "llama.attention.head_count_kv": [2, 2] } }, "head_count_kv is not one number"],
    ["a part of several", { metadata: { "split.count": 3 } }, "it is one part of several"],
    ["rope scaling", { metadata: { "llama.rope.scaling.type": "yarn" } }, 'rope scaling "yarn"; only Llama 3\'s'],
    [
      "unlike heads",
      { metadata: { "llama.attention.value_length": 8 } },
      "keys and values of an attention head differ",
    ],
    ["missing tensor", { tensors: tinyGgufTensors("llama").slice(0, -1) }, "tensor blk.1.ffn_down.weight is missing"],
    [
      "misshaped tensor",
      rename(UP, { shape: [8, 13] }),
      `tensor ${UP} has shape [8,13], the configuration calls for [8,12]`,
    ],
    ["unknown tensor", rename(UP, { name: "blk.1.ffn_up_exps.weight" }), `tensor ${UP} is missing`],
    ["integer weights", rename(UP, { type: "i32" }), `tensor ${UP} is of type i32`],
    ["unknown type", rename(UP, { type: "99" }), `tensor ${UP} has the unknown ggml type 99`],
    ["half a block", rename(UP, { type: "q4_0" }), `tensor ${UP} has shape [8,12], not whole blocks of 32 q4_0 values`],
    ["misaligned", rename(UP, { offset: 8 }), `tensor ${UP} begins at 8, not at a multiple of 32`],
    ["overlap", rename(UP, { offset: 0 }), "overlap"],
    ["beyond the end", rename(UP, { offset: 2 ** 40 }), `tensor ${UP} ends at byte`],
    ["five dimensions", rename(UP, { shape: [1, 1, 1, 1, 1] }), `tensor ${UP} has 5 dimensions`],
    ["the same twice", rename(UP, { name: "blk.1.ffn_gate.weight" }), "tensor blk.1.ffn_gate.weight is there twice"],
    [
      "crooked alignment",
      { metadata: { "general.alignment": 48 } },
      "general.alignment is 48; it has to be a power of two",
    ],
    ["version 1", { version: 1 }, "GGUF version 1; 2 and 3 (little-endian) are read"],
    [
      "rope factors of another length",
      { tensors: [...tinyGgufTensors("llama"), { name: "rope_freqs.weight", shape: [3], type: "f32" }] },
      "tensor rope_freqs.weight is f32 [3], the configuration calls for f32 [2]",
    ],
    [
      "rope factors of zero",
      { tensors: [...tinyGgufTensors("llama"), { name: "rope_freqs.weight", shape: [2], type: "f32" }] },
      "0 is among the divisors of its rope frequencies",
    ],
    ["sentencepiece", { metadata: { "tokenizer.ggml.model": "llama" } }, 'its tokenizer is "llama"; byte-level BPE'],
    [
      "unknown pre-tokenizer",
      { metadata: { "tokenizer.ggml.pre": "tekken" } },
      'its pre-tokenizer is "tekken"; implemented',
    ],
    [
      "no merges",
      { metadata: { "tokenizer.ggml.merges": undefined } },
      "metadata array tokenizer.ggml.merges is missing",
    ],
    [
      "too few token types",
      { metadata: { "tokenizer.ggml.token_type": [1, 1] } },
      "it has 256 tokens, and 2 token types",
    ],
    [
      "eos beyond the end",
      { metadata: { "tokenizer.ggml.eos_token_id": 256 } },
      "eos_token_id is 256, the vocabulary has 256",
    ],
    [
      "more tokens than rows",
      { metadata: { "tokenizer.ggml.tokens": Array.from({ length: 257 }, (_, i) => `t${i}`) } },
      "it has 257 tokens, its embedding 256 rows",
    ],
  ]
  test.each(cases)("%s", async (_, content, message) => {
    const file = writeGguf(content)
    const error = await refused(file)
    expect(error.message).toContain(message)
    expect(error.message).toContain(file)
  })

  test("cut at any place", async () => {
    const whole = gguf()
    const { tensors } = readGguf(writeGguf(whole))
    const end = Math.max(...tensors.map(({ offset, bytes }) => offset + bytes))
    for (let length = 0; length < end; length += 97) {
      const file = writeGguf(whole.subarray(0, length))
      const error = await refused(file)
      expect(error._tag).toBe("ModelCorrupt")
      expect(error.message).toContain(`${file} is damaged: `)
      expect(error.message).toContain(`${length}`)
    }
  })

  test("another file altogether", async () => {
    expect((await refused("package.json")).message).toContain("package.json is damaged: it does not begin with GGUF")
  })

  test("lengths that no file has", async () => {
    const whole = gguf()
    for (const at of [8, 16, 24]) {
      const broken = Buffer.from(whole)
      broken.writeBigUInt64LE(2n ** 62n, at)
      expect((await refused(writeGguf(broken)))._tag).toBe("ModelCorrupt")
    }
  })
})

/** A llama of one layer whose dimensions are all `size`, so that any block divides them. */
const sized = (size: number) => ({
  "llama.block_count": 1,
  "llama.embedding_length": size,
  "llama.feed_forward_length": size,
  "llama.attention.head_count": 1,
  "llama.attention.head_count_kv": 1,
  "llama.attention.key_length": size,
  "llama.attention.value_length": size,
})

const sizedTensors = (size: number, type: string): Array<GgufTensor> =>
  tinyGgufTensors("llama")
    .filter(({ name }) => !name.startsWith("blk.1."))
    .map(({ name, shape }) =>
      shape.length === 1 ? { name, shape: [size], type: "f32" } : { name, shape: [size, size], type },
    )

// GGUF files: what is read from a sound one, and the message for each way of not being one.
import { describe, expect, test } from "vitest"
import { readGguf } from "../../../../src/model/formats/gguf.ts"
import { isWeightType, tensorTypes } from "../../../../src/model/formats/weights.ts"
import {
  type Gguf,
  type GgufTensor,
  type GgufValue,
  gguf,
  opened,
  refused,
  safetensors,
  tinyGgufTensors,
  tinyMetadata,
  tinyTensors,
  writeGguf,
} from "../fixtures.ts"

describe("a sound file", () => {
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

/** Entries that would change the numbers: refused by their name, but accepted with a value that changes nothing. */
const settings: ReadonlyArray<readonly [why: string, content: Gguf, message: string]> = [
  ...(
    [
      ["llama.attention.causal", false, "false; implemented is true"],
      ["llama.attention.scale", 0.25, "0.25; implemented is one over the root"],
      ["llama.attention.sliding_window", 32, "32; implemented is a window of the whole context"],
      ["llama.attention.clamp_kqv", 8, "8; implemented is 0"],
      ["llama.attention.max_alibi_bias", 8, "8; implemented is 0"],
      ["llama.rope.scaling.attn_factor", 1.5, "1.5; implemented is 1"],
      ["llama.logit_scale", 16, "16; implemented is 1"],
      ["llama.final_logit_softcapping", 30, "30; implemented is 0"],
      ["llama.hidden_activation", "gelu", "gelu; implemented is silu"],
    ] as const
  ).map(([key, value, said]) => [key, { metadata: { [key]: value } }, `entry ${key} is ${said}`] as const),
  ...[
    "llama.rope.dimension_sections",
    "llama.attention.q_lora_rank",
    "llama.expert_gating_func",
    "llama.ssm.state_size",
  ].map((key) => [key, { metadata: { [key]: 1 } }, `entry ${key} is not known here, and may change`] as const),
  ["llama.expert_count", { metadata: { "llama.expert_count": 8 } }, "it is a mixture of 8 experts"],
]

/** Sound files that are no models. */
const others: ReadonlyArray<readonly [why: string, content: Gguf | Buffer, message: string]> = [
  [
    "the first part",
    { metadata: { "split.count": 3, "split.no": 0 } },
    "it is part 1 of 3; join them with `llama-gguf",
  ],
  ["the second part", onlyEntries({ "split.count": 3, "split.no": 1 }), "it is part 2 of 3; join them"],
  [
    "a LoRA adapter",
    onlyEntries({ "general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora" }),
    "it is a LoRA adapter, which changes a model",
  ],
  ["an importance matrix", onlyEntries({ "general.type": "imatrix" }), "it is an importance matrix"],
  ["a projector", onlyEntries({ "general.architecture": "clip" }), "it is a projector for images"],
  ["an old importance matrix", oldImatrix("blk.0.attn_k.weight"), "it is an importance matrix"],
  ["a pointer of Git LFS", Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:0"), "git lfs pull"],
  ["a web page", Buffer.from("<!DOCTYPE html><html></html>"), "it is a web page"],
  ["PyTorch's archive", Buffer.from("PK\u0003\u0004........................"), "it is a zip archive"],
  ["a format before GGUF", Buffer.from("tjgg........................"), "it is of a format before GGUF"],
  ["safetensors", safetensors(tinyTensors("llama")), "it is a safetensors file; give the folder"],
]

describe("a file that is no model", () => {
  test.each(others)("%s", async (_, content, message) => {
    const file = writeGguf(content)
    const error = await refused(file)
    expect(error._tag).toBe("ModelUnsupported") // not damaged
    expect(error.message).toContain(message)
    expect(error.message).toContain(file)
  })
})

describe("settings that are obeyed or change nothing", () => {
  test("are accepted", async () => {
    const metadata = {
      ...{ "llama.attention.causal": true, "llama.attention.scale": 0.5, "llama.attention.sliding_window": 64 },
      ...{ "llama.attention.clamp_kqv": 0, "llama.rope.scaling.attn_factor": 1, "llama.expert_count": 0 },
      ...{ "llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4, "llama.logit_scale": 1 },
      ...{ "llama.tensor_data_layout": "Meta AI original pth", "llama.rope.scaling.original_context_length": 32 },
    }
    expect((await opened(writeGguf({ metadata }))).shape.ropeFactors).toBeNull()
  })

  test.each([
    ["rope.scaling.factor without a type", { "llama.rope.scaling.factor": 4 }, [4, 4]],
    [
      "rope.scaling.factor of type linear",
      { "llama.rope.scaling.factor": 2.5, "llama.rope.scaling.type": "linear" },
      [2.5, 2.5],
    ],
    ["the old rope.scale_linear", { "llama.rope.scale_linear": 8 }, [8, 8]],
    [
      "both, of which the old one is not read",
      { "llama.rope.scaling.factor": 2, "llama.rope.scale_linear": 8 },
      [2, 2],
    ],
    ["no scaling at all", { "llama.rope.scaling.factor": 0 }, null],
  ])("%s", async (_, metadata, factors) => {
    const { ropeFactors } = (await opened(writeGguf({ metadata }))).shape
    expect(ropeFactors).toEqual(factors === null ? null : Float32Array.from(factors))
  })

  test("a linear scaling multiplies Llama 3's", async () => {
    const content = Buffer.alloc(8)
    content.writeFloatLE(1, 0)
    content.writeFloatLE(8, 4)
    const factors: GgufTensor = { name: "rope_freqs.weight", shape: [2], type: "f32", content }
    const tensors = [...tinyGgufTensors("llama"), factors]
    const { shape } = await opened(writeGguf({ tensors, metadata: { "llama.rope.scaling.factor": 2 } }))
    expect(shape.ropeFactors).toEqual(Float32Array.of(2, 16))
  })

  test("a number a layer, where all are the same", async () => {
    const metadata = {
      "llama.attention.head_count": [4, 4],
      "llama.attention.head_count_kv": [2, 2],
      "llama.feed_forward_length": [12, 12],
    }
    expect((await opened(writeGguf({ metadata }))).shape).toEqual((await opened(writeGguf())).shape)
  })

  test("without tokenizer.ggml.pre it is opened with a warning", async () => {
    expect((await opened(writeGguf())).warnings).toEqual([])
    const file = writeGguf({ metadata: { "tokenizer.ggml.pre": undefined } })
    expect((await opened(file)).warnings).toEqual([
      expect.stringMatching(/model\.gguf does not say .*tokenizer\.ggml\.pre is missing/),
    ])
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
    [
      "heads by layer",
      { metadata: { "llama.attention.head_count_kv": [2, 1] } },
      "head_count_kv differs from layer to layer (2 and 1)",
    ],
    [
      "heads of three layers of two",
      { metadata: { "llama.attention.head_count": [4, 4, 4] } },
      "head_count is no list of 2 numbers",
    ],
    ["rope scaling", { metadata: { "llama.rope.scaling.type": "yarn" } }, 'rope scaling "yarn"; linear and Llama 3\'s'],
    [
      "a scaling that is no number",
      { metadata: { "llama.rope.scaling.factor": "2" } },
      "scaling.factor is 2; expected",
    ],
    ...settings,
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
    ["version 1", { version: 1 }, "GGUF version 1; versions 2 and 3 (little-endian) are read"],
    ["big-endian", { version: 3 << 24 }, "big-endian GGUF; versions 2 and 3 (little-endian) are read"],
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

/** Metadata of no model, and no tensors. */
function onlyEntries(metadata: Record<string, GgufValue>): Gguf {
  const none = Object.fromEntries(Object.keys(tinyMetadata("llama")).map((key) => [key, undefined]))
  return { metadata: { ...none, ...metadata }, tensors: [] }
}

/** The start of llama.cpp's format before it was GGUF: a count, then a tensor's name behind its length. */
function oldImatrix(name: string): Buffer {
  const head = Buffer.alloc(8)
  head.writeInt32LE(1, 0)
  head.writeInt32LE(name.length, 4)
  return Buffer.concat([head, Buffer.from(name), Buffer.alloc(64)])
}

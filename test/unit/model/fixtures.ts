// Models small enough to write in a test: whole files in the real formats, with weights of zeros.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { onTestFinished } from "vitest"
import { bytesOf, tensorTypes } from "../../../src/model/formats/weights.ts"
import { type Model, open } from "../../../src/model/index.ts"

export const demo = { base: "models/demo/base", draft: "models/demo/draft" } as const

/** A folder that is gone after the test. */
export const temporaryFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), "chorus-model-"))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export const opened = (path: string): Promise<Model> => Effect.runPromise(open(path))

/** The error that opening fails with; a defect rejects. */
export const refused = (path: string, options?: { context: number }) =>
  Effect.runPromise(Effect.flip(open(path, options)))

export interface Tensor {
  readonly name: string
  readonly shape: ReadonlyArray<number> // as the format writes it
  readonly type: string
}

interface HeaderEntry {
  readonly dtype: string
  readonly shape: ReadonlyArray<number>
  readonly data_offsets: readonly [number, number]
}

/** The bytes of a safetensors file; entries of `falsified` stand in place of the right ones. */
export const safetensors = (
  tensors: ReadonlyArray<Tensor>,
  falsified: Readonly<Record<string, HeaderEntry>> = {},
): Buffer => {
  const sizes: Record<string, number> = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8 }
  const header: Record<string, HeaderEntry> = {}
  let end = 0
  for (const { name, shape, type } of tensors) {
    const bytes = shape.reduce((product, n) => product * n, sizes[type] ?? 1)
    header[name] = { dtype: type, shape, data_offsets: [end, end + bytes] }
    end += bytes
  }
  const json = Buffer.from(JSON.stringify({ __metadata__: { format: "pt" }, ...header, ...falsified }))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([length, json, Buffer.alloc(end)])
}

/** A config.json's content: 2 layers, d 8, 4 heads of 4 values on 2 KV heads, MLP 12, 256 tokens. */
export const tinyConfig = (model_type: string): Record<string, unknown> => ({
  model_type,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 4,
  vocab_size: 256,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-6,
  rope_theta: 10_000,
  hidden_act: "silu",
  tie_word_embeddings: true,
})

/** The tensors for `tinyConfig`, by their Hugging Face names. */
export const tinyTensors = (model_type: string, rows = 256): Array<Tensor> => {
  const tensors: Array<Tensor> = [
    { name: "model.embed_tokens.weight", shape: [rows, 8], type: "BF16" },
    { name: "model.norm.weight", shape: [8], type: "F32" },
  ]
  for (let layer = 0; layer < 2; layer++) {
    const add = (name: string, ...shape: Array<number>) =>
      tensors.push({ name: `model.layers.${layer}.${name}`, shape, type: "BF16" })
    add("input_layernorm.weight", 8)
    add("self_attn.q_proj.weight", 16, 8)
    add("self_attn.k_proj.weight", 8, 8)
    add("self_attn.v_proj.weight", 8, 8)
    add("self_attn.o_proj.weight", 8, 16)
    add("post_attention_layernorm.weight", 8)
    add("mlp.gate_proj.weight", 12, 8)
    add("mlp.up_proj.weight", 12, 8)
    add("mlp.down_proj.weight", 8, 12)
    if (model_type === "qwen2") {
      add("self_attn.q_proj.bias", 16)
      add("self_attn.k_proj.bias", 8)
      add("self_attn.v_proj.bias", 8)
    }
    if (model_type === "qwen3") {
      add("self_attn.q_norm.weight", 4)
      add("self_attn.k_norm.weight", 4)
    }
  }
  return tensors
}

/** GPT-2's 256 characters for bytes, in the order of the bytes. */
export const byteAlphabet = (): Array<string> => {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255)
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++))
}

export const tinyTokenizer = (): Record<string, unknown> => ({
  version: "1.0",
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
  post_processor: null,
  decoder: { type: "ByteLevel" },
  model: { type: "BPE", vocab: Object.fromEntries(byteAlphabet().map((token, id) => [token, id])), merges: [] },
})

export interface Folder {
  readonly config?: Record<string, unknown>
  readonly tensors?: ReadonlyArray<Tensor>
  readonly tokenizer?: Record<string, unknown>
  readonly files?: Readonly<Record<string, string | Buffer>> // further ones, or in place of those
}

/** Writes a Hugging Face folder; what is not given is the tiny llama. */
export const writeFolder = (parts: Folder = {}, folder = temporaryFolder()): string => {
  const config = parts.config ?? tinyConfig("llama")
  const files = {
    "config.json": JSON.stringify(config),
    "tokenizer.json": JSON.stringify(parts.tokenizer ?? tinyTokenizer()),
    "model.safetensors": safetensors(parts.tensors ?? tinyTensors(String(config.model_type))),
    ...parts.files,
  }
  mkdirSync(folder, { recursive: true })
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  return folder
}

/** A value of GGUF metadata: a number is written as u32, or as f32 where it is no integer. */
export type GgufValue = string | number | boolean | ReadonlyArray<string> | ReadonlyArray<number>

export interface GgufTensor extends Tensor {
  readonly offset?: number // in place of the right one
  readonly content?: Buffer
}

export interface Gguf {
  readonly metadata?: Readonly<Record<string, GgufValue | undefined>> // merged with the tiny llama's; undefined removes
  readonly tensors?: ReadonlyArray<GgufTensor>
  readonly version?: number
}

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
const u64 = (value: number) => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
const f32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatLE(value)
  return bytes
}
const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)])

const ggufValue = (value: GgufValue): Buffer => {
  if (typeof value === "string") return Buffer.concat([u32(8), text(value)])
  if (typeof value === "boolean") return Buffer.concat([u32(7), Buffer.from([value ? 1 : 0])])
  if (typeof value === "number") {
    return Number.isInteger(value) ? Buffer.concat([u32(4), u32(value)]) : Buffer.concat([u32(6), f32(value)])
  }
  const strings = typeof value[0] === "string"
  const items = value.map((item) => (typeof item === "string" ? text(item) : u32(item)))
  return Buffer.concat([u32(9), u32(strings ? 8 : 4), u64(value.length), ...items])
}

/** Metadata for the same tiny model as `tinyConfig`. */
export const tinyMetadata = (architecture: string): Record<string, GgufValue> => ({
  "general.architecture": architecture,
  [`${architecture}.block_count`]: 2,
  [`${architecture}.context_length`]: 64,
  [`${architecture}.embedding_length`]: 8,
  [`${architecture}.feed_forward_length`]: 12,
  [`${architecture}.attention.head_count`]: 4,
  [`${architecture}.attention.head_count_kv`]: 2,
  [`${architecture}.attention.key_length`]: 4,
  [`${architecture}.attention.value_length`]: 4,
  [`${architecture}.attention.layer_norm_rms_epsilon`]: 1e-6,
  [`${architecture}.rope.freq_base`]: 10_000.5,
  "tokenizer.ggml.model": "gpt2",
  "tokenizer.ggml.pre": "gpt-2",
  "tokenizer.ggml.tokens": byteAlphabet(),
  "tokenizer.ggml.merges": ["a b"],
})

const ggufNames: ReadonlyArray<readonly [RegExp, string]> = [
  [/^model\.embed_tokens/, "token_embd"],
  [/^model\.norm/, "output_norm"],
  [/^model\.layers\./, "blk."],
  [/input_layernorm/, "attn_norm"],
  [/post_attention_layernorm/, "ffn_norm"],
  [/self_attn\.([qkv])_proj/, "attn_$1"],
  [/self_attn\.o_proj/, "attn_output"],
  [/self_attn\.([qk])_norm/, "attn_$1_norm"],
  [/mlp\.(gate|up|down)_proj/, "ffn_$1"],
]

/** `tinyTensors` as GGUF has them, in f32. */
export const tinyGgufTensors = (architecture: string, rows?: number): Array<GgufTensor> =>
  tinyTensors(architecture, rows).map(({ name, shape }) => ({
    name: ggufNames.reduce((renamed, [from, to]) => renamed.replace(from, to), name),
    shape: shape.toReversed(),
    type: "f32",
  }))

/** The bytes of a GGUF file; what is not given is the tiny llama. */
export const gguf = ({ metadata = {}, tensors, version = 3 }: Gguf = {}): Buffer => {
  const architecture = String(metadata["general.architecture"] ?? "llama")
  const entries = Object.entries({ ...tinyMetadata(architecture), ...metadata })
  const written = entries.flatMap(([key, value]) => (value === undefined ? [] : [text(key), ggufValue(value)]))
  const count = entries.filter(([, value]) => value !== undefined).length
  const list = tensors ?? tinyGgufTensors(architecture)
  const numbers = new Map(Array.from(tensorTypes, ([number, { name }]) => [name, number]))
  const infos: Array<Buffer> = []
  const data: Array<Buffer> = []
  let end = 0
  for (const { name, shape, type, offset, content } of list) {
    const number = numbers.get(type) ?? Number(type)
    infos.push(text(name), u32(shape.length), ...shape.map(u64), u32(number), u64(offset ?? end))
    const known = tensorTypes.get(number)
    const bytes = content ?? Buffer.alloc((known && bytesOf(known, shape)) ?? 0)
    const padded = Buffer.concat([bytes, Buffer.alloc((32 - (bytes.length % 32)) % 32)])
    data.push(padded)
    end += padded.length
  }
  const head = Buffer.concat([Buffer.from("GGUF"), u32(version), u64(list.length), u64(count), ...written, ...infos])
  return Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32), ...data])
}

/** Writes it as model.gguf and returns the path. */
export const writeGguf = (content: Gguf | Buffer = {}, folder = temporaryFolder()): string => {
  const file = join(folder, "model.gguf")
  writeFileSync(file, Buffer.isBuffer(content) ? content : gguf(content))
  return file
}

// The sound models that mutations start from: the demo pair as it lies there, and small ones whose weights are the demo's
// bytes, in every layout that the loaders know. Where the real models are, also files cut from them.
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import { bytesOf, isWeightType, tensorTypes } from "../../src/model/formats/weights.ts"
import { ALIGNMENT, assemble, type Entry, type EntryValue, entry, layoutOf, tensorEntry } from "./ggufLayout.ts"
import type { Random } from "./random.ts"

export type Loader = "safetensors" | "gguf"

export interface Sound {
  readonly name: string
  readonly loader: Loader
  readonly files: ReadonlyMap<string, Buffer>
}

/** Of a GGUF model's only file. */
export const GGUF_FILE = "model.gguf"

const DEMO = join(import.meta.dirname, "../../models/demo")
const REAL = join(homedir(), ".cache/chorus/models")
const ROWS = 512 // of the small models' embeddings

export const corpus = (): ReadonlyArray<Sound> => [
  demo("draft"),
  ...(["llama", "qwen2", "qwen3"] as const).map((architecture) => folder(architecture, narrow)),
  sharded(),
  ...(["llama", "qwen2", "qwen3"] as const).map((architecture) => converted(architecture, narrow, ["bf16", "f16"])),
  converted("llama", narrow, ["f32"]),
  converted("llama", narrow, ["q8_0", "q4_0", "q5_1", "iq4_nl"]),
  converted("qwen2", wide, ["q4_K", "q6_K", "q5_K"]),
  converted("qwen3", wide, ["iq2_xs", "q3_K", "q2_K", "iq3_s"]),
  ...cutFromReal(),
]

const demo = (name: string): Sound => {
  const path = join(DEMO, name)
  const files = new Map(readdirSync(path).map((file) => [file, readFileSync(join(path, file))]))
  return { name: `demo ${name}`, loader: "safetensors", files }
}

interface Size {
  readonly rows: number // of the embedding
  readonly context: number
  readonly width: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly ffn: number
  readonly layers: number
}

const narrow: Size = { rows: ROWS, context: 64, width: 96, heads: 3, kvHeads: 1, headDim: 32, ffn: 64, layers: 2 }
const wide: Size = { rows: ROWS, context: 64, width: 256, heads: 4, kvHeads: 2, headDim: 64, ffn: 256, layers: 1 }

type Architecture = "llama" | "qwen2" | "qwen3"

/** GGUF's names and ggml's shapes. */
const tensorsOf = (architecture: Architecture, size: Size): ReadonlyArray<readonly [string, ReadonlyArray<number>]> => {
  const { width, headDim, ffn } = size
  const [q, kv] = [size.heads * headDim, size.kvHeads * headDim]
  const inLayer = (layer: number): ReadonlyArray<readonly [string, ReadonlyArray<number>]> => [
    [`blk.${layer}.attn_norm.weight`, [width]],
    [`blk.${layer}.attn_q.weight`, [width, q]],
    [`blk.${layer}.attn_k.weight`, [width, kv]],
    [`blk.${layer}.attn_v.weight`, [width, kv]],
    [`blk.${layer}.attn_output.weight`, [q, width]],
    [`blk.${layer}.ffn_norm.weight`, [width]],
    [`blk.${layer}.ffn_gate.weight`, [width, ffn]],
    [`blk.${layer}.ffn_up.weight`, [width, ffn]],
    [`blk.${layer}.ffn_down.weight`, [ffn, width]],
    ...(architecture === "qwen2"
      ? ([
          [`blk.${layer}.attn_q.bias`, [q]],
          [`blk.${layer}.attn_k.bias`, [kv]],
          [`blk.${layer}.attn_v.bias`, [kv]],
        ] as const)
      : []),
    ...(architecture === "qwen3"
      ? ([
          [`blk.${layer}.attn_q_norm.weight`, [headDim]],
          [`blk.${layer}.attn_k_norm.weight`, [headDim]],
        ] as const)
      : []),
  ]
  return [
    ["token_embd.weight", [width, size.rows]],
    ["output_norm.weight", [width]],
    ...Array.from({ length: size.layers }, (_, layer) => inLayer(layer)).flat(),
  ]
}

/** Bytes of the demo's weights, again and again. */
const weights = (bytes: number): Buffer => Buffer.alloc(bytes, demoWeights)
const demoFile = readFileSync(join(DEMO, "draft/model.safetensors"))
const demoWeights = demoFile.subarray(8 + Number(demoFile.readBigUInt64LE(0)))

const demoTokenizer = JSON.parse(readFileSync(join(DEMO, "draft/tokenizer.json"), "utf8"))

/** The demo's tokenizer with its first tokens alone. */
const smallTokenizer = (rows: number) => {
  const whole = demoTokenizer
  const vocab: Record<string, number> = Object.fromEntries(
    Object.entries<number>(whole.model.vocab).filter(([, id]) => id < rows),
  )
  const merges = whole.model.merges.filter((pair: ReadonlyArray<string>) => Object.hasOwn(vocab, pair.join("")))
  const tokens = Object.keys(vocab).toSorted((a, b) => (vocab[a] ?? 0) - (vocab[b] ?? 0))
  return { json: { ...whole, model: { ...whole.model, vocab, merges } }, tokens, merges }
}

/** What a tokenizer.json may have beside the demo's, so that mutations reach it. */
const richTokenizer = (rows: number) => {
  const { json } = smallTokenizer(rows)
  const pattern = { Regex: "(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+" }
  const flags = { single_word: true, lstrip: true, rstrip: true, normalized: true, special: false }
  const split = { type: "Split", pattern, behavior: "MergedWithNext", invert: true }
  const punctuation = { type: "Punctuation", behavior: "Contiguous" }
  const digits = { type: "Digits", individual_digits: true }
  const bytes = { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: false }
  const replace = { type: "Replace", pattern: { String: "ä" }, content: "$&" }
  const strip = { type: "Strip", strip_left: true, strip_right: false }
  const prepend = { type: "Prepend", prepend: " " }
  return {
    ...json,
    added_tokens: [...json.added_tokens, { id: rows - 1, content: "ange(", ...flags }],
    normalizer: { type: "Sequence", normalizers: [{ type: "NFC" }, { type: "Lowercase" }, replace, strip, prepend] },
    pre_tokenizer: { type: "Sequence", pretokenizers: [split, punctuation, digits, bytes] },
  }
}

const configOf = (architecture: Architecture, size: Size) => ({
  ...JSON.parse(readFileSync(join(DEMO, "draft/config.json"), "utf8")),
  ...{ model_type: architecture, hidden_size: size.width, intermediate_size: size.ffn, head_dim: size.headDim },
  ...{ num_hidden_layers: size.layers, num_attention_heads: size.heads, num_key_value_heads: size.kvHeads },
  ...{ vocab_size: size.rows, max_position_embeddings: size.context },
  ...(architecture === "qwen2" && {
    rope_parameters: { rope_type: "linear", factor: 2.5, rope_theta: 20_000 },
    ...{ use_sliding_window: true, sliding_window: 32, max_window_layers: size.layers },
  }),
  ...(architecture === "llama" && {
    rope_scaling: {
      rope_type: "llama3",
      ...{ factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 32 },
    },
  }),
})

const MODULES: ReadonlyArray<readonly [RegExp, string]> = [
  [/^token_embd/, "model.embed_tokens"],
  [/^output_norm/, "model.norm"],
  [/^blk/, "model.layers"],
  [/attn_norm/, "input_layernorm"],
  [/ffn_norm/, "post_attention_layernorm"],
  [/attn_([qkv])_norm/, "self_attn.$1_norm"],
  [/attn_([qkv])\./, "self_attn.$1_proj."],
  [/attn_output/, "self_attn.o_proj"],
  [/ffn_(gate|up|down)/, "mlp.$1_proj"],
]
const huggingFaceName = (name: string): string =>
  MODULES.reduce((renamed, [from, to]) => renamed.replace(from, to), name)

const safetensors = (tensors: ReadonlyArray<readonly [string, ReadonlyArray<number>]>): Buffer => {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } }
  let end = 0
  for (const [name, shape] of tensors) {
    const bytes = shape.reduce((product, n) => product * n, 2)
    header[huggingFaceName(name)] = { dtype: "BF16", shape: shape.toReversed(), data_offsets: [end, end + bytes] }
    end += bytes
  }
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([length, json, weights(end)])
}

const TEMPLATE = "{% for message in messages %}<{{ message.role }}>{{ message.content | trim }}{% endfor %}"

const filesOf = (architecture: Architecture, size: Size): Array<[string, Buffer]> => [
  ["config.json", Buffer.from(JSON.stringify(configOf(architecture, size)))],
  [
    "tokenizer.json",
    Buffer.from(JSON.stringify(architecture === "qwen2" ? richTokenizer(size.rows) : smallTokenizer(size.rows).json)),
  ],
  ["tokenizer_config.json", readFileSync(join(DEMO, "draft/tokenizer_config.json"))],
  ["generation_config.json", Buffer.from('{"eos_token_id": [0, 1]}')],
  ["chat_template.jinja", Buffer.from(TEMPLATE)],
]

const folder = (architecture: Architecture, size: Size): Sound => ({
  name: `small ${architecture} folder`,
  loader: "safetensors",
  files: new Map([...filesOf(architecture, size), ["model.safetensors", safetensors(tensorsOf(architecture, size))]]),
})

const sharded = (): Sound => {
  const tensors = tensorsOf("llama", narrow)
  const shards = [tensors.slice(0, 8), tensors.slice(8)]
  const file = (index: number) => `model-0000${index + 1}-of-00002.safetensors`
  const weight_map = Object.fromEntries(
    shards.flatMap((shard, index) => shard.map(([name]) => [huggingFaceName(name), file(index)])),
  )
  return {
    name: "small folder of two shards",
    loader: "safetensors",
    files: new Map([
      ...filesOf("llama", narrow),
      ["model.safetensors.index.json", Buffer.from(JSON.stringify({ metadata: {}, weight_map }))],
      ...shards.map((shard, index): [string, Buffer] => [file(index), safetensors(shard)]),
    ]),
  }
}

/** The matrices take the types in turn. */
const converted = (architecture: Architecture, size: Size, types: ReadonlyArray<string>): Sound => {
  const entries = Object.entries(metadataOf(architecture, size)).map(([key, value]) => entry(key, value))
  const tensors: Array<Buffer> = []
  let end = 0
  const add = (name: string, shape: ReadonlyArray<number>, typeName: string) => {
    for (const [type, known] of tensorTypes) {
      if (known.name !== typeName) continue
      tensors.push(tensorEntry({ name, shape, type, offset: end }))
      end = Math.ceil((end + (bytesOf(known, shape) ?? 0)) / ALIGNMENT) * ALIGNMENT
    }
  }
  for (const [index, [name, shape]] of tensorsOf(architecture, size).entries()) {
    add(name, shape, shape.length === 1 ? "f32" : (types[index % types.length] ?? "f32"))
  }
  const at = end
  const factors = architecture === "llama" ? Math.floor(size.headDim / 2) : 0
  if (factors > 0) add("rope_freqs.weight", [factors], "f32")
  const data = weights(end)
  for (let i = 0; i < factors; i++) data.writeFloatLE(1 + i, at + 4 * i)
  const files = new Map([[GGUF_FILE, assemble(entries, tensors, data)]])
  return { name: `small ${architecture} GGUF in ${types.join(", ")}`, loader: "gguf", files }
}

const metadataOf = (architecture: Architecture, size: Size): Record<string, EntryValue> => {
  const { tokens, merges } = smallTokenizer(size.rows)
  return {
    "general.architecture": architecture,
    "general.alignment": ALIGNMENT,
    [`${architecture}.block_count`]: size.layers,
    [`${architecture}.context_length`]: size.context,
    [`${architecture}.embedding_length`]: size.width,
    [`${architecture}.feed_forward_length`]: size.ffn,
    [`${architecture}.attention.head_count`]: size.heads,
    [`${architecture}.attention.head_count_kv`]: new Array<number>(size.layers).fill(size.kvHeads),
    [`${architecture}.attention.key_length`]: size.headDim,
    [`${architecture}.attention.value_length`]: size.headDim,
    [`${architecture}.attention.layer_norm_rms_epsilon`]: 1e-5,
    [`${architecture}.rope.freq_base`]: 10_000.5,
    [`${architecture}.rope.scaling.factor`]: 2.5,
    [`${architecture}.attention.causal`]: true,
    [`${architecture}.attention.sliding_window`]: size.context,
    [`${architecture}.rope.dimension_count`]: size.headDim - (size.headDim % 2),
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "llama-bpe",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.token_type": tokens.map((_, id) => (id < 3 ? 3 : 1)),
    "tokenizer.ggml.merges": merges.map((pair: ReadonlyArray<string>) => pair.join(" ")),
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 0,
    "tokenizer.ggml.add_bos_token": true,
    "tokenizer.chat_template": TEMPLATE,
  }
}

const TYPES = [...tensorTypes.values()].map(({ name }) => name).filter(isWeightType)

/** A model that is in order, of sizes that no real one has. */
export const oddModel = (random: Random): Sound => {
  const kvHeads = random.pick([1, 1, 2, 3])
  const heads = kvHeads * random.pick([1, 1, 2, 5])
  const size: Size = {
    rows: random.pick([3, 5, 300, ROWS]),
    context: random.pick([1, 3, 64, 2 ** 20, 2 ** 28, 2 ** 31]),
    width: random.pick([1, 2, 31, 32, 64, 255, 256, 512]),
    ...{ kvHeads, heads, layers: random.pick([1, 2]) },
    headDim: random.pick([1, 2, 6, 16, 32, 33, 64, 66, 80, 100, 128, ...(heads < 3 ? [256, 258, 576] : [])]),
    ffn: random.pick([1, 31, 32, 64, 256, 257]),
  }
  const architecture = random.pick(["llama", "qwen2", "qwen3"] as const)
  if (random.chance(0.3)) return folder(architecture, size)
  const fitting = TYPES.filter((name) => fits(name, size))
  return converted(architecture, size, [random.pick(fitting), random.pick(fitting)])
}

/** Whether rows of every matrix are whole blocks. */
const fits = (name: string, { width, heads, headDim, ffn }: Size): boolean => {
  for (const { name: known, block } of tensorTypes.values()) {
    if (known === name) return [width, heads * headDim, ffn].every((inputs) => inputs % block === 0)
  }
  return false
}

/** Real files with their first layer and first tokens alone. */
const cutFromReal = (): ReadonlyArray<Sound> =>
  ["smollm2-135m-instruct-q4_1.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"]
    .filter((name) => existsSync(join(REAL, name)))
    .map((name) => ({
      name: `cut from ${name}`,
      loader: "gguf",
      files: new Map([[GGUF_FILE, cut(readFileSync(join(REAL, name)))]]),
    }))

const cut = (file: Buffer): Buffer => {
  const { entries, tensors, dataAt } = layoutOf(file)
  const kept: Array<Buffer> = []
  const data: Array<Buffer> = []
  let end = 0
  for (const { name, shape, type, offset } of tensors) {
    const known = tensorTypes.get(type)
    const isVocabulary = name === "token_embd.weight" || name === "output.weight"
    if (known === undefined || !(isVocabulary || name === "output_norm.weight" || name.startsWith("blk.0."))) continue
    const small = isVocabulary ? [shape[0] ?? 0, ROWS] : shape
    const bytes = bytesOf(known, small) ?? 0
    kept.push(tensorEntry({ name, shape: small, type, offset: end }))
    const padded = Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
    data.push(file.subarray(dataAt + offset, dataAt + offset + bytes), Buffer.alloc(padded - bytes))
    end += padded
  }
  return assemble(
    entries.map((one) => cutEntry(file, one)),
    kept,
    Buffer.concat(data),
  )
}

const cutEntry = (file: Buffer, { key, from, to, valueAt, items }: Entry): Buffer => {
  if (key.endsWith(".block_count")) return entry(key, 1)
  if (/(bos|eos|padding|unknown)_token_id$/.test(key)) return entry(key, 0)
  const last = items[Math.min(ROWS, items.length) - 1]
  if (last === undefined) return file.subarray(from, to)
  const cut = Buffer.from(file.subarray(from, last.to))
  cut.writeBigUInt64LE(BigInt(Math.min(ROWS, items.length)), valueAt - from + 4)
  return cut
}

// Settings of a model that are obeyed, against what settings.py computes with numpy: the demo draft under a stretched rope
// and with a head of its own, as a Hugging Face folder and as a GGUF.
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, test } from "vitest"
import { readSafetensors } from "../../src/model/formats/safetensors.ts"
import { type GgufTensor, type GgufValue, writeFolder, writeGguf } from "../unit/model/fixtures.ts"
import { append, argmax, GREEDY, golden, load } from "./engines.ts"

interface Run {
  readonly greedy: ReadonlyArray<number>
  readonly top5: ReadonlyArray<ReadonlyArray<readonly [token: number, logit: number]>>
}
type Case = "plain" | "linear 4" | "linear 2.5" | "own head"
const reference = golden<Readonly<Record<Case, Run>> & { readonly tokens: ReadonlyArray<number> }>("settings.json")

const DRAFT = "models/demo/draft"
const TOLERANCE = 0.1 // of logits: with bf16 weights the kernels narrow the activations as well

const { tensors } = readSafetensors(join(DRAFT, "model.safetensors"))
const file = readFileSync(join(DRAFT, "model.safetensors"))
const json = (name: string) => JSON.parse(readFileSync(join(DRAFT, name), "utf8"))
const config = json("config.json")
const contentOf = ({ offset, bytes }: { offset: number; bytes: number }): Buffer =>
  file.subarray(offset, offset + bytes)

/** Each row of the embedding is the head's for the token before. */
const ownHead = (): Buffer => {
  const embedding = tensors.find(({ name }) => name === "model.embed_tokens.weight")
  if (embedding === undefined) throw new Error("the demo draft has no embedding")
  const content = contentOf(embedding)
  const row = 2 * config.hidden_size
  return Buffer.concat([content.subarray(row), content.subarray(0, row)])
}

/** The draft as a folder with a changed config.json, and further weights. */
const folder = (change: Record<string, unknown>, head?: Buffer): string => {
  const all = tensors.map((tensor) => ({
    name: tensor.name,
    shape: tensor.shape.toReversed(),
    content: contentOf(tensor),
  }))
  if (head !== undefined) {
    all.push({ name: "lm_head.weight", shape: [config.vocab_size, config.hidden_size], content: head })
  }
  let end = 0
  const header: Record<string, unknown> = {}
  for (const { name, shape, content } of all) {
    header[name] = { dtype: "BF16", shape, data_offsets: [end, end + content.length] }
    end += content.length
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  const weights = Buffer.concat([length, text, ...all.map(({ content }) => content)])
  return writeFolder({
    config: { ...config, ...change },
    tokenizer: json("tokenizer.json"),
    files: { "model.safetensors": weights },
  })
}

const NAMES: ReadonlyArray<readonly [RegExp, string]> = [
  [/^model\.embed_tokens/, "token_embd"],
  [/^model\.norm/, "output_norm"],
  [/^model\.layers/, "blk"],
  [/input_layernorm/, "attn_norm"],
  [/post_attention_layernorm/, "ffn_norm"],
  [/self_attn\.([qkv])_proj/, "attn_$1"],
  [/self_attn\.o_proj/, "attn_output"],
  [/mlp\.(gate|up|down)_proj/, "ffn_$1"],
]

/** GGUF's llama turns neighbours, so the rows of q and k lie in another order there. */
const interleaved = (content: Buffer): Buffer => {
  const row = 2 * config.hidden_size
  const half = config.head_dim / 2
  const rows = Array.from({ length: content.length / row }, (_, index) => {
    const [head, at] = [Math.floor(index / config.head_dim), index % config.head_dim]
    const from = head * config.head_dim + (at % 2) * half + Math.floor(at / 2)
    return content.subarray(from * row, (from + 1) * row)
  })
  return Buffer.concat(rows)
}

const asF32 = (content: Buffer): Buffer => {
  const narrow = new Uint16Array(content.buffer.slice(content.byteOffset, content.byteOffset + content.length))
  return Buffer.from(Uint32Array.from(narrow, (half) => half << 16).buffer)
}

/** The draft as a GGUF with further metadata. */
const asGguf = (metadata: Record<string, GgufValue>): string => {
  const converted = tensors.map((tensor): GgufTensor => {
    const name = NAMES.reduce((renamed, [from, to]) => renamed.replace(from, to), tensor.name)
    const content = /attn_[qk]\./.test(name) ? interleaved(contentOf(tensor)) : contentOf(tensor)
    return tensor.shape.length === 1
      ? { name, shape: tensor.shape, type: "f32", content: asF32(content) }
      : { name, shape: tensor.shape, type: "bf16", content }
  })
  const vocab: Array<string> = []
  for (const [token, id] of Object.entries<number>(json("tokenizer.json").model.vocab)) vocab[id] = token
  return writeGguf({
    tensors: converted,
    metadata: {
      ...{ "llama.block_count": config.num_hidden_layers, "llama.context_length": config.max_position_embeddings },
      ...{ "llama.embedding_length": config.hidden_size, "llama.feed_forward_length": config.intermediate_size },
      "llama.attention.head_count": config.num_attention_heads,
      "llama.attention.head_count_kv": config.num_key_value_heads,
      ...{ "llama.attention.key_length": config.head_dim, "llama.attention.value_length": config.head_dim },
      "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
      "llama.rope.freq_base": config.rope_theta,
      ...{ "tokenizer.ggml.tokens": vocab, "tokenizer.ggml.merges": [] as ReadonlyArray<string> },
      ...metadata,
    },
  })
}

const LINEAR = { rope_type: "linear", factor: 2.5 }
const cases: ReadonlyArray<readonly [name: string, path: () => string, expected: Case]> = [
  ["no scaling", () => folder({}), "plain"],
  ["linear scaling", () => folder({ rope_scaling: LINEAR }), "linear 2.5"],
  ["linear scaling in rope_parameters", () => folder({ rope_parameters: LINEAR }), "linear 2.5"],
  [
    "rope_scaling over rope_parameters",
    () => folder({ rope_scaling: LINEAR, rope_parameters: { factor: 1 } }),
    "linear 2.5",
  ],
  ["a head of its own that the configuration says is tied", () => folder({}, ownHead()), "own head"],
  ["a GGUF without scaling", () => asGguf({}), "plain"],
  ["rope.scaling.factor without a type", () => asGguf({ "llama.rope.scaling.factor": 4 }), "linear 4"],
  ["the old rope.scale_linear", () => asGguf({ "llama.rope.scale_linear": 4 }), "linear 4"],
  [
    "a factor of type none",
    () => asGguf({ "llama.rope.scaling.factor": 4, "llama.rope.scaling.type": "none" }),
    "plain",
  ],
]

test.each(cases)("%s: greedy tokens and logits are the reference's", async (_, path, expected) => {
  const subject = await load(path())
  const { greedy, top5 } = reference[expected]
  expect(greedy.length).toBeGreaterThan(0)
  try {
    subject.engine.open("s", GREEDY)
    let next = reference.tokens
    for (const [step, token] of greedy.entries()) {
      const logits = await append(subject, "s", next)
      const best = top5[step] ?? []
      const off = best.map(([id, logit]) => Math.abs((logits[id] ?? Number.NaN) - logit))
      expect(Math.max(...off)).toBeLessThan(TOLERANCE)
      const [first, second] = best
      if ((first?.[1] ?? 0) - (second?.[1] ?? 0) > 2 * TOLERANCE) expect(argmax(logits)).toBe(token)
      next = [token]
    }
  } finally {
    subject.engine.dispose()
  }
})

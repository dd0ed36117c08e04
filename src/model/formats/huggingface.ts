// A Hugging Face folder: config.json, and safetensors in one file or in several with an index.
import { existsSync } from "node:fs"
import { basename, join } from "node:path"
import { Schema } from "effect"
import type { Shape, TensorSource } from "../../../native/index.ts"
import { type Architecture, checkShape, checkTensors, isArchitecture, unknownArchitecture } from "../architecture.ts"
import { ModelCorrupt, ModelUnreadable, ModelUnsupported, TensorMismatch } from "../errors.ts"
import { checkFactors, llama3Factors } from "../rope.ts"
import { readJson } from "./json.ts"
import { readSafetensors } from "./safetensors.ts"

const RopeParameters = Schema.Struct({
  rope_type: Schema.optionalKey(Schema.String),
  type: Schema.optionalKey(Schema.String), // the name before rope_type
  rope_theta: Schema.optionalKey(Schema.Finite),
  factor: Schema.optionalKey(Schema.Finite),
  low_freq_factor: Schema.optionalKey(Schema.Finite),
  high_freq_factor: Schema.optionalKey(Schema.Finite),
  original_max_position_embeddings: Schema.optionalKey(Schema.Finite),
})

const nullable = <S extends Schema.Top>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const Kind = Schema.Struct({ model_type: Schema.String })

const Config = Schema.Struct({
  hidden_size: Schema.Int,
  intermediate_size: Schema.Int,
  num_hidden_layers: Schema.Int,
  num_attention_heads: Schema.Int,
  num_key_value_heads: nullable(Schema.Int),
  head_dim: nullable(Schema.Int),
  vocab_size: Schema.Int,
  max_position_embeddings: Schema.Int,
  rms_norm_eps: Schema.Finite,
  rope_theta: nullable(Schema.Finite),
  rope_scaling: nullable(RopeParameters),
  rope_parameters: nullable(RopeParameters), // rope_theta and rope_scaling in one, since transformers 5
  partial_rotary_factor: nullable(Schema.Finite),
  hidden_act: Schema.optionalKey(Schema.String),
  tie_word_embeddings: nullable(Schema.Boolean),
  use_sliding_window: nullable(Schema.Boolean),
  quantization_config: Schema.optionalKey(Schema.Unknown),
  bos_token_id: Schema.optionalKey(Schema.Unknown),
  eos_token_id: Schema.optionalKey(Schema.Unknown),
})
type Config = typeof Config.Type

export interface HuggingFaceModel {
  readonly architecture: Architecture
  readonly shape: Shape
  readonly tensors: ReadonlyArray<TensorSource>
  readonly bytes: number // of the weight files
}

export const readHuggingFace = (folder: string): HuggingFaceModel => {
  const file = join(folder, "config.json")
  const kind = readJson(file, Kind)
  if (kind === null) throw new ModelUnreadable({ file, reason: "there is no such file in the model's folder" })
  const architecture = kind.model_type
  if (!isArchitecture(architecture)) throw unknownArchitecture(file, architecture)
  const config = readJson(file, Config)
  if (config === null) throw new ModelUnreadable({ file, reason: "it vanished while it was read" })
  checkConfig(file, config)
  const shape = shapeOf(config)
  checkShape(file, shape)
  const { tensors, bytes } = readWeights(folder)
  const kept = tensors.filter((tensor) => !isDerived(tensor.name, config))
  const named = kept.map((tensor) => ({ ...tensor, name: ggufName(tensor.name) }))
  checkTensors(folder, architecture, shape, named, huggingFaceName)
  if (config.tie_word_embeddings === false && !named.some((tensor) => tensor.name === "output.weight")) {
    throw new TensorMismatch({ file: folder, tensor: "lm_head.weight", reason: "is missing, and the head is not tied" })
  }
  return { architecture, shape: { ...shape, ropeFactors: ropeFactorsOf(file, config, shape) }, tensors: named, bytes }
}

/** What would change the computation, and is not implemented. */
const checkConfig = (file: string, config: Config): void => {
  const refuse = (reason: string) => new ModelUnsupported({ file, reason })
  if (config.quantization_config !== undefined && config.quantization_config !== null) {
    throw refuse("its weights are quantised (quantization_config); use the original weights or a GGUF file")
  }
  if ((config.hidden_act ?? "silu") !== "silu")
    throw refuse(`hidden_act is "${config.hidden_act}"; silu is implemented`)
  if (config.use_sliding_window === true) throw refuse("use_sliding_window is on; sliding windows are not implemented")
  if ((config.partial_rotary_factor ?? 1) !== 1) throw refuse("partial_rotary_factor is not 1")
}

/** Without the rope's factors: how many there are is believed once the tensors have been seen. */
const shapeOf = (config: Config): Shape => {
  const headDim = config.head_dim ?? config.hidden_size / config.num_attention_heads
  return {
    layers: config.num_hidden_layers,
    width: config.hidden_size,
    heads: config.num_attention_heads,
    kvHeads: config.num_key_value_heads ?? config.num_attention_heads,
    headDim,
    ffn: config.intermediate_size,
    vocab: config.vocab_size,
    context: config.max_position_embeddings,
    normEps: config.rms_norm_eps,
    ropeTheta: config.rope_parameters?.rope_theta ?? config.rope_theta ?? 10_000,
    ropeDim: headDim,
    ropePairs: "halves",
    ropeFactors: null,
  }
}

const ropeFactorsOf = (file: string, config: Config, { ropeTheta, ropeDim }: Shape): Float32Array | null => {
  const rope = config.rope_parameters ?? config.rope_scaling ?? {}
  const kind = rope.rope_type ?? rope.type ?? "default"
  if (kind === "default") return null
  if (kind !== "llama3") {
    throw new ModelUnsupported({ file, reason: `rope scaling "${kind}"; only "llama3" and none are implemented` })
  }
  const { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } = rope
  if (
    factor === undefined ||
    low_freq_factor === undefined ||
    high_freq_factor === undefined ||
    original_max_position_embeddings === undefined
  ) {
    const reason =
      'rope scaling "llama3" needs factor, low_freq_factor, high_freq_factor and original_max_position_embeddings'
    throw new ModelCorrupt({ file, reason })
  }
  const scaling = { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings }
  return checkFactors(file, llama3Factors(scaling, ropeTheta, ropeDim))
}

const Index = Schema.Struct({ weight_map: Schema.Record(Schema.String, Schema.String) })

const readWeights = (folder: string): { tensors: ReadonlyArray<TensorSource>; bytes: number } => {
  const single = join(folder, "model.safetensors")
  const indexFile = join(folder, "model.safetensors.index.json")
  if (existsSync(single)) {
    const { tensors, size } = readSafetensors(single)
    return { tensors, bytes: size }
  }
  const index = readJson(indexFile, Index)
  if (index === null) {
    const reason = "it holds neither model.safetensors nor model.safetensors.index.json"
    throw new ModelUnreadable({ file: folder, reason })
  }
  return readShards(folder, indexFile, new Map(Object.entries(index.weight_map)))
}

const readShards = (folder: string, indexFile: string, index: ReadonlyMap<string, string>) => {
  const tensors: Array<TensorSource> = []
  let bytes = 0
  for (const name of new Set(index.values())) {
    if (basename(name) !== name)
      throw new ModelCorrupt({ file: indexFile, reason: `it points out of its folder: ${name}` })
    const shard = readSafetensors(join(folder, name))
    bytes += shard.size
    const stray = shard.tensors.find((tensor) => index.get(tensor.name) !== name)
    if (stray !== undefined) {
      throw new ModelCorrupt({
        file: indexFile,
        reason: `it does not place tensor ${stray.name} in ${name}, where it is`,
      })
    }
    tensors.push(...shard.tensors)
  }
  const found = new Set(tensors.map((tensor) => tensor.name))
  for (const [tensor, name] of index) {
    if (!found.has(tensor)) throw new TensorMismatch({ file: join(folder, name), tensor, reason: "is missing" })
  }
  return { tensors, bytes }
}

/** Tensors that say nothing that the others do not: stored frequencies, and the copy of a tied head. */
const isDerived = (name: string, config: Config): boolean =>
  name.endsWith(".rotary_emb.inv_freq") || (name === "lm_head.weight" && config.tie_word_embeddings === true)

const outer: ReadonlyMap<string, string> = new Map([
  ["model.embed_tokens.weight", "token_embd.weight"],
  ["model.norm.weight", "output_norm.weight"],
  ["lm_head.weight", "output.weight"],
])

const inLayer: ReadonlyMap<string, string> = new Map([
  ["input_layernorm", "attn_norm"],
  ["self_attn.q_proj", "attn_q"],
  ["self_attn.k_proj", "attn_k"],
  ["self_attn.v_proj", "attn_v"],
  ["self_attn.o_proj", "attn_output"],
  ["self_attn.q_norm", "attn_q_norm"],
  ["self_attn.k_norm", "attn_k_norm"],
  ["post_attention_layernorm", "ffn_norm"],
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.down_proj", "ffn_down"],
])

/** Names without a counterpart stay, and are refused as unknown. */
const ggufName = (name: string): string => {
  const [, layer, module = "", part] = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? []
  const known = inLayer.get(module)
  return known === undefined ? (outer.get(name) ?? name) : `blk.${layer}.${known}.${part}`
}

const outerBack = new Map(Array.from(outer, ([theirs, ours]) => [ours, theirs]))
const inLayerBack = new Map(Array.from(inLayer, ([theirs, ours]) => [ours, theirs]))

const huggingFaceName = (name: string): string => {
  const [, layer, module = "", part] = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name) ?? []
  const known = inLayerBack.get(module)
  return known === undefined ? (outerBack.get(name) ?? name) : `model.layers.${layer}.${known}.${part}`
}

// config.json as the shape of a model. What it leaves out is what transformers' class of the architecture has as default;
// what would change the computation and is not implemented is refused by its key.
import { Schema } from "effect"
import type { Shape } from "../../../native/index.ts"
import { type Architecture, architectures, hasBiases } from "../architectures/index.ts"
import { ModelCorrupt, ModelUnsupported } from "../errors.ts"
import { checkFactors, dividedBy, llama3Factors } from "../rope.ts"
import { shown } from "./json.ts"

const optional = <S extends Schema.Top>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const RopeParameters = Schema.Struct({
  rope_type: optional(Schema.String),
  type: optional(Schema.String), // the name before rope_type
  rope_theta: optional(Schema.Finite),
  factor: optional(Schema.Finite),
  low_freq_factor: optional(Schema.Finite),
  high_freq_factor: optional(Schema.Finite),
  original_max_position_embeddings: optional(Schema.Finite),
  partial_rotary_factor: optional(Schema.Finite),
})

/** The keys that are read by name; the others are looked at in `settings`. */
const Fields = Schema.Struct({
  hidden_size: Schema.Int,
  intermediate_size: Schema.Int,
  num_hidden_layers: Schema.Int,
  num_attention_heads: Schema.Int,
  num_key_value_heads: optional(Schema.Int),
  head_dim: optional(Schema.Int),
  vocab_size: Schema.Int,
  max_position_embeddings: optional(Schema.Int),
  original_max_position_embeddings: optional(Schema.Finite),
  rms_norm_eps: optional(Schema.Finite),
  rope_theta: optional(Schema.Finite),
  rope_scaling: Schema.optionalKey(Schema.Unknown),
  rope_parameters: Schema.optionalKey(Schema.Unknown), // rope_theta and rope_scaling in one, since transformers 5
  tie_word_embeddings: optional(Schema.Boolean),
  use_sliding_window: optional(Schema.Boolean),
  sliding_window: optional(Schema.Finite),
  max_window_layers: optional(Schema.Int),
})
type Fields = typeof Fields.Type

export const Config = Schema.StructWithRest(Fields, [Schema.Record(Schema.String, Schema.Unknown)])
export type Config = typeof Config.Type

/** Of transformers' configuration classes, all of them. */
const NORM_EPS = 1e-6
const ROPE_THETA = 10_000

/** Without the rope's factors: how many there are is believed once the tensors have been seen. */
export const shapeOf = ({ name, defaults }: Architecture, config: Config): Shape => {
  const heads = config.num_attention_heads
  const { num_key_value_heads: kvHeads = defaults.kvHeads, head_dim: length = defaults.headDim } = config
  const headDim = length ?? config.hidden_size / heads
  return {
    architecture: name,
    layers: config.num_hidden_layers,
    width: config.hidden_size,
    heads,
    kvHeads: kvHeads ?? heads,
    headDim,
    ffn: config.intermediate_size,
    vocab: config.vocab_size,
    context: config.max_position_embeddings ?? defaults.context,
    normEps: config.rms_norm_eps ?? NORM_EPS,
    ropeTheta: ropeOf(config).rope_theta ?? config.rope_theta ?? ROPE_THETA,
    ropeDim: headDim,
    ropePairs: "halves",
    ropeFactors: null,
  }
}

type Json = Readonly<Record<string, unknown>>
const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)

/** rope_scaling hides rope_parameters, unless it is empty; so transformers reads a file that has both. */
const rawRopeOf = ({ rope_scaling, rope_parameters }: Fields): Json => {
  const given = [rope_scaling, rope_parameters].find((value) => isObject(value) && Object.keys(value).length > 0)
  return isObject(given) ? given : {}
}

const isRope = Schema.is(RopeParameters)

const ropeOf = (config: Fields): typeof RopeParameters.Type => {
  const raw = rawRopeOf(config)
  return isRope(raw) ? raw : {}
}

interface Setting {
  readonly neutral: ReadonlyArray<unknown> // values that leave the computation alone; null does everywhere
  readonly reason?: string // else what is implemented is said
}
const only = (...neutral: ReadonlyArray<unknown>): Setting => ({ neutral })

/** Keys that change numbers, here or in relatives of these architectures. What is not listed is passed over. */
const settings: ReadonlyMap<string, Setting> = new Map([
  [
    "quantization_config",
    { neutral: [], reason: "its weights are quantised; use the original weights or a GGUF file" },
  ],
  [
    "compression_config",
    { neutral: [], reason: "its weights are compressed; use the original weights or a GGUF file" },
  ],
  ...["hidden_act", "hidden_activation", "activation_function"].map((key) => [key, only("silu", "swish")] as const),
  ...[
    "mlp_bias",
    "bias",
    "use_bias",
    "alibi",
    "use_mrope",
    "rope_interleaved",
    "use_qk_norm",
    "qk_layernorm",
    "qk_norm",
  ].map((key) => [key, only(false)] as const),
  ...["use_parallel_residual", "use_bidirectional_attention", "is_encoder_decoder", "add_cross_attention"].map(
    (key) => [key, only(false)] as const,
  ),
  ["is_causal", only(true)],
  ...["partial_rotary_factor", "rotary_pct", "rope_percent"].map((key) => [key, only(1)] as const),
  ...["logit_scale", "logits_scaling", "lm_head_multiplier", "embedding_multiplier", "residual_multiplier"].map(
    (key) => [key, only(1)] as const,
  ),
  ...["scale_emb", "scale_depth", "attention_multiplier", "key_multiplier", "query_pre_attn_scalar"].map(
    (key) => [key, only(1)] as const,
  ),
  ...["final_logit_softcapping", "attn_logit_softcapping", "clip_qkv", "attention_chunk_size"].map(
    (key) => [key, only(0)] as const,
  ),
  ...["num_experts", "num_local_experts", "n_routed_experts"].map((key) => [key, only(0)] as const),
])

/** Throws for what would change the computation, and is not implemented. */
export const checkConfig = (file: string, architecture: Architecture, config: Config): void => {
  const refuse = (reason: string) => new ModelUnsupported({ file, reason })
  for (const [key, { neutral, reason }] of settings) {
    const value = config[key]
    if (value === undefined || value === null || neutral.includes(value)) continue
    throw refuse(
      reason === undefined ? `${key} is ${shown(value)}; ${shown(neutral[0])} is implemented` : `${key}: ${reason}`,
    )
  }
  if (config.attention_bias === true && !hasBiases(architecture)) {
    const names = architectures.filter(hasBiases).map(({ name }) => name)
    throw refuse(
      `attention_bias is true; biases of attention are implemented for ${names.join(", ")} alone, without one of its output`,
    )
  }
  checkPurpose(refuse, config)
  checkWindows(refuse, architecture, config)
  checkRope(file, refuse, config)
}

type Refuse = (reason: string) => ModelUnsupported

/** A classifier or an embedder has the same layers, and no head that gives tokens. */
const checkPurpose = (refuse: Refuse, { architectures }: Config): void => {
  if (!Array.isArray(architectures)) return
  const [first] = architectures
  if (typeof first === "string" && !/ForCausalLM$|LMHeadModel$/.test(first)) {
    throw refuse(`it is a ${first.slice(0, 80)} (architectures), which does not generate text`)
  }
}

/** A window that no layer has, or that is as long as the context, is none. */
const checkWindows = (refuse: Refuse, architecture: Architecture, config: Config): void => {
  const { use_sliding_window: on, layer_types: types } = config
  const { slidingWindow } = architecture
  const { sliding_window: window = slidingWindow?.length ?? null } = config
  const other = Array.isArray(types) ? types.find((type) => type !== "full_attention") : undefined
  if (window === null || window >= shapeOf(architecture, config).context) {
    if (other === undefined || other === "sliding_attention") return
  }
  if (other !== undefined) throw refuse(`layer_types has ${shown(other)}; "full_attention" is implemented`)
  if (Array.isArray(types)) return
  if (slidingWindow !== null) {
    if (on !== true || (config.max_window_layers ?? slidingWindow.fromLayer) >= config.num_hidden_layers) return
  }
  throw refuse(`sliding_window is ${window}; sliding windows shorter than the context are not implemented`)
}

const KINDS = ["default", "linear", "llama3"]

const checkRope = (file: string, refuse: Refuse, config: Config): void => {
  const raw = rawRopeOf(config)
  const unknown = Object.keys(raw).find((key) => raw[key] !== null && !(key in RopeParameters.fields))
  const type = raw.rope_type ?? raw.type ?? "default"
  if (typeof type !== "string" || !KINDS.includes(type)) {
    throw refuse(`rope scaling ${shown(type)}; "linear", "llama3" and none are implemented`)
  }
  if (unknown !== undefined) throw refuse(`rope scaling has ${unknown.slice(0, 80)}, which is not known here`)
  if (!isRope(raw)) throw new ModelCorrupt({ file, reason: "a value of its rope scaling is no number" })
  if ((raw.partial_rotary_factor ?? 1) !== 1) throw refuse("partial_rotary_factor is not 1")
  if (type === "default" && (raw.factor ?? 1) !== 1) {
    throw refuse(`rope scaling has the factor ${raw.factor} and no type; "linear" and "llama3" are implemented`)
  }
}

export const ropeFactorsOf = (
  file: string,
  config: Config,
  { ropeTheta, ropeDim, context }: Shape,
): Float32Array | null => {
  const rope = ropeOf(config)
  const kind = rope.rope_type ?? rope.type ?? "default"
  if (kind === "default") return null
  const corrupt = (needs: string) => new ModelCorrupt({ file, reason: `rope scaling "${kind}" needs ${needs}` })
  const { factor, low_freq_factor, high_freq_factor } = rope
  if (kind === "linear") {
    if (typeof factor !== "number") throw corrupt("a factor")
    const factors = dividedBy(factor, null, ropeDim)
    return factors === null ? null : checkFactors(file, factors)
  }
  if (typeof factor !== "number" || typeof low_freq_factor !== "number" || typeof high_freq_factor !== "number") {
    throw corrupt("factor, low_freq_factor and high_freq_factor")
  }
  const original_max_position_embeddings =
    config.original_max_position_embeddings ?? rope.original_max_position_embeddings ?? context
  const scaling = { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings }
  return checkFactors(file, llama3Factors(scaling, ropeTheta, ropeDim))
}

// What a GGUF says of its computation beside the sizes. Every entry below rope, attention and expert is obeyed, known to
// change nothing at the value it has, or refused by its name: one that is passed over makes another model of the weights.
// The meanings are llama.cpp's (src/llama-model.cpp).
import { ModelUnsupported } from "../errors.ts"
import { type Metadata, MetadataArray, type MetadataValue } from "./gguf.ts"

interface Context {
  readonly headDim: number
  readonly context: number // tokens
}

interface Setting {
  readonly harmless: (value: MetadataValue, context: Context) => boolean
  readonly expected: string // as the refusal says it
}

const read: Setting = { harmless: () => true, expected: "" } // elsewhere, or of no effect in these architectures

const only = (...values: ReadonlyArray<MetadataValue>): Setting => ({
  harmless: (value) => values.includes(value),
  expected: String(values[0]),
})

const scale: Setting = {
  harmless: (value, { headDim }) => value === 0 || value === Math.fround(1 / Math.sqrt(headDim)),
  expected: "one over the root of a head's length",
}

const window: Setting = {
  harmless: (value, { context }) => typeof value === "number" && (value === 0 || value >= context),
  expected: "a window of the whole context",
}

const inGroups: ReadonlyMap<string, Setting> = new Map([
  ["attention.head_count", read],
  ["attention.head_count_kv", read],
  ["attention.key_length", read],
  ["attention.value_length", read],
  ["attention.layer_norm_rms_epsilon", read],
  ["attention.layer_norm_epsilon", read], // of norms that subtract the mean, which none of the architectures has
  ["attention.causal", only(true)],
  ["attention.max_alibi_bias", only(0)],
  ["attention.clamp_kqv", only(0)],
  ["attention.scale", scale],
  ["attention.sliding_window", window],
  ["rope.dimension_count", read],
  ["rope.freq_base", read],
  ["rope.scale_linear", read],
  ["rope.scaling.type", read],
  ["rope.scaling.factor", read],
  ["rope.scaling.original_context_length", read], // yarn's, which is refused by its type
  ["rope.scaling.finetuned", read], // a remark
  ["rope.scaling.attn_factor", only(1)],
  ["expert_count", only(0)],
  ["expert_used_count", only(0)],
])

/** Entries elsewhere that change numbers in other architectures. */
const single: ReadonlyMap<string, Setting> = new Map([
  ["logit_scale", only(1, 0)],
  ["residual_scale", only(1, 0)],
  ["embedding_scale", only(1, 0)],
  ["attn_logit_softcapping", only(0)],
  ["final_logit_softcapping", only(0)],
  ["router_logit_softcapping", only(0)],
  ["use_parallel_residual", only(false)],
  ["hidden_activation", only("silu")],
  ["swin_norm", only(false)],
])

/** Throws for the first entry that would change what is computed. */
export const checkSettings = (file: string, metadata: Metadata, architecture: string, context: Context): void => {
  const refuse = (reason: string) => new ModelUnsupported({ file, reason })
  const experts = metadata.get(`${architecture}.expert_count`)
  if (typeof experts === "number" && experts > 0) {
    throw refuse(
      `it is a mixture of ${experts} experts (${architecture}.expert_count); models with experts are not run`,
    )
  }
  for (const [key, value] of metadata) {
    if (!key.startsWith(`${architecture}.`)) continue
    const name = key.slice(architecture.length + 1)
    const setting = inGroups.get(name) ?? single.get(name)
    if (setting === undefined && (name.includes(".") || name.startsWith("expert"))) {
      throw refuse(`metadata entry ${key.slice(0, 80)} is not known here, and may change what the model computes`)
    }
    if (setting !== undefined && !setting.harmless(value, context)) {
      throw refuse(`metadata entry ${key} is ${shown(value)}; implemented is ${setting.expected}`)
    }
  }
}

const shown = (value: MetadataValue): string => (value instanceof MetadataArray ? "a list" : String(value).slice(0, 80))

/** By how much all frequencies of the rope are divided: 1, or what llama.cpp takes for linear scaling, its default. */
export const linearScaling = (file: string, metadata: Metadata, architecture: string): number => {
  const type = metadata.get(`${architecture}.rope.scaling.type`) ?? "linear"
  if (type === "none") return 1
  if (type !== "linear") {
    const reason = `rope scaling ${JSON.stringify(shown(type))}; linear and Llama 3's (rope_freqs.weight) are implemented`
    throw new ModelUnsupported({ file, reason })
  }
  const [key, factor] = [`${architecture}.rope.scaling.factor`, `${architecture}.rope.scale_linear`]
    .map((name) => [name, metadata.get(name)] as const)
    .find(([, value]) => value !== undefined) ?? ["", 1]
  if (typeof factor !== "number" || !(factor >= 0 && Number.isFinite(factor))) {
    throw new ModelUnsupported({ file, reason: `metadata entry ${key} is ${shown(factor ?? "")}; expected a factor` })
  }
  return factor === 0 ? 1 : factor // llama.cpp's way of saying none
}

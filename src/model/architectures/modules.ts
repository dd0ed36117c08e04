// The modules that architectures are put together from.
import type { Shape } from "../../../native/index.ts"
import type { Module } from "./architecture.ts"

const queries = ({ heads, headDim }: Shape): number => heads * headDim
const keys = ({ kvHeads, headDim }: Shape): number => kvHeads * headDim

/** Grouped-query attention with a norm in front. */
export const attention = (bias: Module["bias"] & string): ReadonlyArray<Module> => [
  { gguf: "attn_norm", huggingFace: "input_layernorm", weight: ({ width }) => [width] },
  { gguf: "attn_q", huggingFace: "self_attn.q_proj", weight: (shape) => [shape.width, queries(shape)], bias },
  { gguf: "attn_k", huggingFace: "self_attn.k_proj", weight: (shape) => [shape.width, keys(shape)], bias },
  { gguf: "attn_v", huggingFace: "self_attn.v_proj", weight: (shape) => [shape.width, keys(shape)], bias },
  { gguf: "attn_output", huggingFace: "self_attn.o_proj", weight: (shape) => [queries(shape), shape.width] },
]

/** Norms of each head's q and k. */
export const headNorms: ReadonlyArray<Module> = [
  { gguf: "attn_q_norm", huggingFace: "self_attn.q_norm", weight: ({ headDim }) => [headDim] },
  { gguf: "attn_k_norm", huggingFace: "self_attn.k_norm", weight: ({ headDim }) => [headDim] },
]

/** A gated SiLU MLP with a norm in front. */
export const gatedMlp: ReadonlyArray<Module> = [
  { gguf: "ffn_norm", huggingFace: "post_attention_layernorm", weight: ({ width }) => [width] },
  { gguf: "ffn_gate", huggingFace: "mlp.gate_proj", weight: ({ width, ffn }) => [width, ffn] },
  { gguf: "ffn_up", huggingFace: "mlp.up_proj", weight: ({ width, ffn }) => [width, ffn] },
  { gguf: "ffn_down", huggingFace: "mlp.down_proj", weight: ({ width, ffn }) => [ffn, width] },
]

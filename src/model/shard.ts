// What one rank needs of a model: its tensors, and the memory for them.
import { Effect } from "effect"
import type { Shape, Shard, TensorSource } from "../../native/index.ts"
import { MemoryExceeded } from "./errors.ts"

/** The parts of a model that sharding looks at. */
export interface Weights {
  readonly path: string
  readonly shape: Shape
  readonly tensors: ReadonlyArray<TensorSource>
}

/** The tensors that a shard computes with, and no other. The embedding serves as head where the model has none of its own. */
export const shardTensors = ({ tensors }: Weights, shard: Shard): ReadonlyArray<TensorSource> => {
  const tied = !tensors.some(({ name }) => name === "output.weight")
  const attention = new Set(shard.attention)
  const mlp = new Set(shard.mlp)
  return tensors.filter(({ name }) => {
    if (name === "token_embd.weight") return shard.embed || (shard.head && tied)
    if (name === "output_norm.weight" || name === "output.weight") return shard.head
    const [, layer, block] = /^blk\.(\d+)\.(attn|ffn)_/.exec(name) ?? []
    return (block === "attn" ? attention : mlp).has(Number(layer))
  })
}

/** The whole model on one rank. */
export const wholeShard = ({ layers }: Shape): Shard => {
  const all = Array.from({ length: layers }, (_, layer) => layer)
  return { attention: all, mlp: all, embed: true, head: true }
}

const valueBytes = { f16: 2, f32: 4 } as const
type KvType = keyof typeof valueBytes

/** ggml multiplies 64 values of f16 at a time, and what is left of a head one by one: heads of other sizes are kept in f32. */
export const kvTypeOf = ({ headDim }: Pick<Shape, "headDim">): KvType => (headDim % 64 === 0 ? "f16" : "f32")

export interface MemoryNeeded {
  readonly weights: number // bytes
  readonly kv: number
  readonly total: number
}

/** Bytes that a shard needs with KV for `tokens` tokens, those of all its sessions together. */
export const memoryNeeded = (
  model: Weights,
  shard: Shard,
  tokens: number,
  kvType: KvType = kvTypeOf(model.shape),
): MemoryNeeded => {
  const weights = shardTensors(model, shard).reduce((sum, { bytes }) => sum + bytes, 0)
  const kv = 2 * tokens * shard.attention.length * model.shape.kvHeads * model.shape.headDim * valueBytes[kvType]
  return { weights, kv, total: weights + kv }
}

/** Fails, with the figures, unless the shard and its KV go into `free` bytes. */
export const requireMemory = (
  model: Weights,
  shard: Shard,
  tokens: number,
  free: number,
  kvType: KvType = kvTypeOf(model.shape),
): Effect.Effect<MemoryNeeded, MemoryExceeded> => {
  const needed = memoryNeeded(model, shard, tokens, kvType)
  if (needed.total <= free) return Effect.succeed(needed)
  const { weights, kv } = needed
  return Effect.fail(new MemoryExceeded({ file: model.path, weights, kv, tokens, free }))
}

// A GGUF file as a model: its metadata say the shape, its tensors have their final names already.
import { closeSync, openSync, readSync } from "node:fs"
import type { Shape, TensorSource } from "../../../native/index.ts"
import { type Architecture, checkShape, checkTensors, isArchitecture, unknownArchitecture } from "../architecture.ts"
import { ModelCorrupt, ModelUnsupported, TensorMismatch } from "../errors.ts"
import { checkFactors } from "../rope.ts"
import { attempt } from "./fileCursor.ts"
import { type Metadata, readGguf } from "./gguf.ts"

export interface GgufModel {
  readonly architecture: Architecture
  readonly shape: Shape
  readonly tensors: ReadonlyArray<TensorSource>
  readonly metadata: Metadata
  readonly bytes: number // of the file
}

const ROPE_FACTORS = "rope_freqs.weight"

export const readGgufModel = (file: string): GgufModel => {
  const { metadata, tensors, size } = readGguf(file)
  const architecture = text(file, metadata, "general.architecture")
  if (!isArchitecture(architecture)) throw unknownArchitecture(file, architecture)
  if (number(file, metadata, "split.count", 1) > 1) {
    throw new ModelUnsupported({ file, reason: "it is one part of several; join them with `llama-gguf-split --merge`" })
  }
  checkRope(file, metadata, architecture)
  const shape = shapeOf(file, metadata, architecture, tensors)
  checkShape(file, shape)
  const weights = tensors.filter((tensor) => tensor.name !== ROPE_FACTORS)
  checkTensors(file, architecture, shape, weights, (name) => name)
  return { architecture, shape, tensors: weights, metadata, bytes: size }
}

const checkRope = (file: string, metadata: Metadata, architecture: Architecture): void => {
  const kind = metadata.get(`${architecture}.rope.scaling.type`) ?? "none"
  if (kind === "none") return
  if (kind === "linear" && number(file, metadata, `${architecture}.rope.scaling.factor`, 1) === 1) return
  const reason = `rope scaling "${String(kind)}"; only Llama 3's (${ROPE_FACTORS}) and none are implemented`
  throw new ModelUnsupported({ file, reason })
}

const shapeOf = (
  file: string,
  metadata: Metadata,
  architecture: Architecture,
  tensors: ReadonlyArray<TensorSource>,
): Shape => {
  const get = (key: string, otherwise?: number) => number(file, metadata, `${architecture}.${key}`, otherwise)
  const width = get("embedding_length")
  const heads = get("attention.head_count")
  const headDim = get("attention.key_length", width / heads)
  if (get("attention.value_length", headDim) !== headDim) {
    throw new ModelUnsupported({ file, reason: "keys and values of an attention head differ in length" })
  }
  const embedding = tensors.find((tensor) => tensor.name === "token_embd.weight")
  const ropeDim = get("rope.dimension_count", headDim)
  return {
    layers: get("block_count"),
    width,
    heads,
    kvHeads: get("attention.head_count_kv", heads),
    headDim,
    ffn: get("feed_forward_length"),
    vocab: embedding?.shape[1] ?? get("vocab_size"),
    context: get("context_length"),
    normEps: get("attention.layer_norm_rms_epsilon"),
    ropeTheta: get("rope.freq_base", 10_000),
    ropeDim,
    ropePairs: architecture === "llama" ? "neighbours" : "halves",
    ropeFactors: readRopeFactors(file, tensors, ropeDim),
  }
}

/** Llama 3's divisors of the frequencies, which GGUF stores as a tensor. */
const readRopeFactors = (file: string, tensors: ReadonlyArray<TensorSource>, ropeDim: number): Float32Array | null => {
  const tensor = tensors.find((candidate) => candidate.name === ROPE_FACTORS)
  if (tensor === undefined) return null
  if (tensor.type !== "f32" || tensor.shape.join() !== String(ropeDim / 2)) {
    const reason = `is ${tensor.type} [${tensor.shape}], the configuration calls for f32 [${ropeDim / 2}]`
    throw new TensorMismatch({ file, tensor: ROPE_FACTORS, reason })
  }
  const bytes = Buffer.alloc(tensor.bytes)
  const descriptor = attempt(file, () => openSync(file, "r"))
  try {
    attempt(file, () => readSync(descriptor, bytes, 0, tensor.bytes, tensor.offset))
  } finally {
    closeSync(descriptor)
  }
  const factors = Float32Array.from({ length: ropeDim / 2 }, (_, i) => bytes.readFloatLE(4 * i))
  return checkFactors(file, factors)
}

const number = (file: string, metadata: Metadata, key: string, otherwise?: number): number => {
  const value = metadata.get(key) ?? otherwise
  if (value === undefined) throw new ModelCorrupt({ file, reason: `metadata entry ${key} is missing` })
  if (typeof value !== "number") throw new ModelUnsupported({ file, reason: `metadata entry ${key} is not one number` })
  return value
}

const text = (file: string, metadata: Metadata, key: string): string => {
  const value = metadata.get(key)
  if (typeof value !== "string") throw new ModelCorrupt({ file, reason: `metadata entry ${key} is missing` })
  return value
}

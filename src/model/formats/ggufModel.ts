// A GGUF file as a model: its metadata say the shape, its tensors have their final names already.
import { closeSync, openSync, readSync } from "node:fs"
import type { Shape, TensorSource } from "../../../native/index.ts"
import { checkShape, checkTensors } from "../architectures/check.ts"
import { type Architecture, architectureOf } from "../architectures/index.ts"
import { ModelCorrupt, ModelUnsupported, TensorMismatch } from "../errors.ts"
import { checkFactors, dividedBy } from "../rope.ts"
import { attempt } from "./fileCursor.ts"
import { type Metadata, MetadataArray, readGguf } from "./gguf.ts"
import { checkSettings, linearScaling } from "./ggufSettings.ts"
import { refuseOtherGguf } from "./otherFiles.ts"

export interface GgufModel {
  readonly shape: Shape
  readonly tensors: ReadonlyArray<TensorSource>
  readonly metadata: Metadata
  readonly bytes: number // of the file
}

const ROPE_FACTORS = "rope_freqs.weight"

export const readGgufModel = (file: string): GgufModel => {
  const { metadata, tensors, size } = readGguf(file)
  refuseOtherGguf(file, metadata)
  const architecture = architectureOf(file, text(file, metadata, "general.architecture"))
  const scaling = linearScaling(file, metadata, architecture.name)
  const shape = shapeOf(file, metadata, architecture, tensors)
  checkShape(file, shape)
  checkSettings(file, metadata, architecture.name, shape)
  const weights = tensors.filter((tensor) => tensor.name !== ROPE_FACTORS)
  checkTensors(file, architecture, shape, weights, (name) => name)
  const ropeFactors = dividedBy(scaling, readRopeFactors(file, tensors, shape.ropeDim), shape.ropeDim)
  return { shape: { ...shape, ropeFactors }, tensors: weights, metadata, bytes: size }
}

/** Without the rope's factors: how many there are is believed once the tensors have been seen. */
const shapeOf = (
  file: string,
  metadata: Metadata,
  { name, ggufRopePairs }: Architecture,
  tensors: ReadonlyArray<TensorSource>,
): Shape => {
  const get = (key: string, otherwise?: number) => number(file, metadata, `${name}.${key}`, otherwise)
  const layers = get("block_count")
  const each = (key: string, otherwise?: number) =>
    sameInEach(file, metadata, `${name}.${key}`, layers) ?? get(key, otherwise)
  const width = get("embedding_length")
  const heads = each("attention.head_count")
  const headDim = get("attention.key_length", width / heads)
  if (get("attention.value_length", width / heads) !== headDim) {
    throw new ModelUnsupported({ file, reason: "keys and values of an attention head differ in length" })
  }
  const embedding = tensors.find((tensor) => tensor.name === "token_embd.weight")
  const ropeDim = get("rope.dimension_count", headDim)
  return {
    architecture: name,
    layers,
    width,
    heads,
    kvHeads: each("attention.head_count_kv", heads),
    headDim,
    ffn: each("feed_forward_length"),
    vocab: embedding?.shape[1] ?? get("vocab_size"),
    context: get("context_length"),
    normEps: get("attention.layer_norm_rms_epsilon"),
    ropeTheta: get("rope.freq_base", 10_000),
    ropeDim,
    ropePairs: ggufRopePairs,
    ropeFactors: null,
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

/** The one number of a list that has the same for each layer; null where there is no list. */
const sameInEach = (file: string, metadata: Metadata, key: string, layers: number): number | null => {
  const list = metadata.get(key)
  if (!(list instanceof MetadataArray)) return null
  const numbers = list.length === layers ? list.numbers() : null
  if (numbers === null) {
    throw new ModelCorrupt({ file, reason: `metadata entry ${key} is no list of ${layers} numbers, one a layer` })
  }
  const [first = 0] = numbers
  const other = numbers.find((value) => value !== first)
  if (other === undefined) return first
  const reason = `metadata entry ${key} differs from layer to layer (${first} and ${other}), which is not implemented`
  throw new ModelUnsupported({ file, reason })
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

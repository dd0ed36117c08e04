// What every architecture's files are held to: their tensors, and the sizes.
import type { Shape, TensorSource } from "../../../native/index.ts"
import { ModelUnsupported, TensorMismatch } from "../errors.ts"
import { isWeightType } from "../formats/weights.ts"
import type { Architecture } from "./architecture.ts"

interface Expected {
  readonly shape: ReadonlyArray<number> // ggml's order
  readonly optional?: boolean
}

/** Every tensor of a model by its GGUF name. Lazily: the number of layers is not to be believed before they are seen. */
function* expectedTensors({ layer }: Architecture, shape: Shape): Generator<readonly [string, Expected]> {
  const { width, vocab } = shape
  yield ["token_embd.weight", { shape: [width, vocab] }]
  yield ["output_norm.weight", { shape: [width] }]
  yield ["output.weight", { shape: [width, vocab], optional: true }] // without it the head is tied to the embedding
  for (let index = 0; index < shape.layers; index++) {
    for (const { gguf, weight, bias } of layer) {
      const sizes = weight(shape)
      yield [`blk.${index}.${gguf}.weight`, { shape: sizes }]
      if (bias !== undefined) {
        yield [`blk.${index}.${gguf}.bias`, { shape: sizes.slice(-1), optional: bias === "optional" }]
      }
    }
  }
}

/**
 * Throws unless `tensors` are exactly what the architecture consists of: one that Chorus would leave out would make
 * another model of it. `nameInFile` turns a GGUF name into the one that the user finds in the file.
 */
export const checkTensors = (
  file: string,
  architecture: Architecture,
  shape: Shape,
  tensors: ReadonlyArray<TensorSource>,
  nameInFile: (name: string) => string,
): void => {
  const found = new Map(tensors.map((tensor) => [tensor.name, tensor]))
  const known = new Set<string>()
  for (const [name, { shape: wanted, optional }] of expectedTensors(architecture, shape)) {
    known.add(name)
    const tensor = found.get(name)
    if (tensor === undefined && optional) continue
    if (tensor === undefined) throw new TensorMismatch({ file, tensor: nameInFile(name), reason: "is missing" })
    if (tensor.shape.join() !== wanted.join()) {
      const reason = `has shape [${tensor.shape}], the configuration calls for [${wanted}]`
      throw new TensorMismatch({ file: tensor.file, tensor: nameInFile(name), reason })
    }
    if (!isWeightType(tensor.type)) {
      throw new TensorMismatch({ file: tensor.file, tensor: nameInFile(name), reason: `is of type ${tensor.type}` })
    }
  }
  const unknown = tensors.find((tensor) => !known.has(tensor.name))
  if (unknown !== undefined) {
    const reason = `tensor ${nameInFile(unknown.name)} is not part of the ${architecture.name} architecture`
    throw new ModelUnsupported({ file: unknown.file, reason })
  }
}

/** What the native module takes: ten times and more of what there is, and few enough to make a list of. */
const MOST = {
  layers: 2 ** 10,
  width: 2 ** 20,
  heads: 2 ** 12,
  kvHeads: 2 ** 12,
  headDim: 2 ** 12,
  ffn: 2 ** 22,
  vocab: 2 ** 24,
  context: 2 ** 28,
} as const

/** Throws unless the sizes are possible, and heads and widths go together. */
export const checkShape = (file: string, shape: Shape): void => {
  const refuse = (reason: string) => new ModelUnsupported({ file, reason })
  for (const [key, most] of Object.entries(MOST)) {
    const size = shape[key as keyof typeof MOST]
    if (!(Number.isSafeInteger(size) && size > 0)) throw refuse(`${key} is ${size}`)
    if (size > most) throw refuse(`${key} is ${size}; up to ${most} is possible`)
  }
  if (shape.heads % shape.kvHeads !== 0) {
    throw refuse(`${shape.heads} heads cannot share ${shape.kvHeads} KV heads evenly`)
  }
  if (shape.ropeDim % 2 !== 0 || shape.ropeDim < 2 || shape.ropeDim > shape.headDim) {
    throw refuse(`${shape.ropeDim} of a head's ${shape.headDim} values would be rotated`)
  }
  if (!(shape.normEps > 0 && shape.normEps < 1)) throw refuse(`the norms' epsilon is ${shape.normEps}`)
  if (!(shape.ropeTheta > 0 && Number.isFinite(shape.ropeTheta))) throw refuse(`the rope's base is ${shape.ropeTheta}`)
}

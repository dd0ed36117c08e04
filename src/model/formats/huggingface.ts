// A Hugging Face folder: config.json, and safetensors in one file or in several with an index.
import { existsSync } from "node:fs"
import { basename, join } from "node:path"
import { Schema } from "effect"
import type { Shape, TensorSource } from "../../../native/index.ts"
import { checkShape, checkTensors } from "../architectures/check.ts"
import { type Architecture, architectureOf } from "../architectures/index.ts"
import { ModelCorrupt, ModelUnreadable, ModelUnsupported, TensorMismatch } from "../errors.ts"
import { Config, checkConfig, ropeFactorsOf, shapeOf } from "./huggingfaceConfig.ts"
import { readJson } from "./json.ts"
import { adviceOnFolder } from "./otherFiles.ts"
import { readSafetensors } from "./safetensors.ts"

const Kind = Schema.Struct({ model_type: Schema.String })

export interface HuggingFaceModel {
  readonly shape: Shape
  readonly tensors: ReadonlyArray<TensorSource>
  readonly bytes: number // of the weight files
}

export const readHuggingFace = (folder: string): HuggingFaceModel => {
  const file = join(folder, "config.json")
  const kind = readJson(file, Kind)
  if (kind === null) {
    const reason = ["there is no such file in the model's folder", adviceOnFolder(folder)]
    throw new ModelUnreadable({ file, reason: reason.filter((part) => part !== null).join("; ") })
  }
  const architecture = architectureOf(file, kind.model_type)
  const config = readJson(file, Config)
  if (config === null) throw new ModelUnreadable({ file, reason: "it vanished while it was read" })
  checkConfig(file, architecture, config)
  const shape = shapeOf(architecture, config)
  checkShape(file, shape)
  const { tensors, bytes } = readWeights(folder)
  const kept = tensors.filter(({ name }) => !name.endsWith(".rotary_emb.inv_freq")) // the configuration says them too
  const names = namesOf(architecture)
  refuseBiases(architecture, kept)
  const named = kept.map((tensor) => ({ ...tensor, name: names.gguf(tensor.name) }))
  checkTensors(folder, architecture, shape, named, names.huggingFace)
  if (config.tie_word_embeddings === false && !named.some((tensor) => tensor.name === "output.weight")) {
    throw new TensorMismatch({ file: folder, tensor: "lm_head.weight", reason: "is missing, and the head is not tied" })
  }
  return { shape: { ...shape, ropeFactors: ropeFactorsOf(file, config, shape) }, tensors: named, bytes }
}

/** A GGUF of these architectures may have them. Here transformers would leave them out, as attention_bias is not on. */
const refuseBiases = ({ layer }: Architecture, tensors: ReadonlyArray<TensorSource>): void => {
  const optional = layer.flatMap(({ huggingFace, bias }) => (bias === "optional" ? [`.${huggingFace}.bias`] : []))
  const bias = tensors.find(({ name }) => optional.some((end) => name.endsWith(end)))
  if (bias === undefined) return
  const reason = `it has the tensor ${bias.name}, while attention_bias in config.json is off`
  throw new ModelUnsupported({ file: bias.file, reason })
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
    const reason = ["it holds neither model.safetensors nor model.safetensors.index.json", adviceOnFolder(folder)]
    throw new ModelUnreadable({ file: folder, reason: reason.filter((part) => part !== null).join("; ") })
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

const outer: ReadonlyMap<string, string> = new Map([
  ["model.embed_tokens.weight", "token_embd.weight"],
  ["model.norm.weight", "output_norm.weight"],
  ["lm_head.weight", "output.weight"],
])

/** An architecture's tensors by the names of both formats. */
const namesOf = ({ layer }: Architecture) => {
  const modules = new Map(layer.map(({ gguf, huggingFace }) => [huggingFace, gguf]))
  const back = new Map(layer.map(({ gguf, huggingFace }) => [gguf, huggingFace]))
  const outerBack = new Map(Array.from(outer, ([theirs, ours]) => [ours, theirs]))
  return {
    /** Names without a counterpart stay, and are refused as unknown. */
    gguf: (name: string): string => {
      const [, index, module = "", part] = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? []
      const known = modules.get(module)
      return known === undefined ? (outer.get(name) ?? name) : `blk.${index}.${known}.${part}`
    },
    huggingFace: (name: string): string => {
      const [, index, module = "", part] = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name) ?? []
      const known = back.get(module)
      return known === undefined ? (outerBack.get(name) ?? name) : `model.layers.${index}.${known}.${part}`
    },
  }
}

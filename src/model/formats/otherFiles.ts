// Files and folders that are in order and yet no model that Chorus runs: an adapter, an importance matrix, one part of a
// split model, a checkpoint of another program. Each is named, and what to do with it is said.
import { readdirSync } from "node:fs"
import { ModelUnsupported } from "../errors.ts"
import type { FileCursor } from "./fileCursor.ts"

/** Of a GGUF. */
type Metadata = ReadonlyMap<string, unknown>

const LOOKED_AT = 64 // bytes from the start, enough to know each format by

const startsWith =
  (...starts: ReadonlyArray<string>) =>
  (head: Buffer): boolean =>
    starts.some((start) => head.toString("latin1", 0, start.length).toLowerCase() === start.toLowerCase())

/** llama.cpp's importance matrix before it was GGUF: a count, then names of tensors behind their lengths. */
const isOldImatrix = (head: Buffer): boolean => {
  if (head.length < 32 || head.readInt32LE(0) < 1) return false
  const length = head.readInt32LE(4)
  return length > 0 && length < 256 && /^(blk\.\d|output|token_embd)/.test(head.toString("latin1", 8, 8 + length))
}

const isSafetensors = (head: Buffer): boolean =>
  head.length > 8 && head.readUInt32LE(4) === 0 && head.readUInt32LE(0) > 1 && head[8] === "{".charCodeAt(0)

const formats: ReadonlyArray<readonly [is: (head: Buffer) => boolean, reason: string]> = [
  [
    startsWith("version https://git-lfs"),
    "it is a pointer of Git LFS, not the file itself; get it with `git lfs pull`",
  ],
  [startsWith("<!doctype", "<html"), "it is a web page; fetch the file itself, by the address of its download"],
  [
    startsWith("PK\u0003\u0004"),
    "it is a zip archive, as PyTorch's checkpoints are; convert it to safetensors or GGUF",
  ],
  [startsWith("algg"), "it is a LoRA adapter of an old format, which changes a model and is none by itself"],
  [startsWith("lmgg", "fmgg", "tjgg"), "it is of a format before GGUF; convert the original model again"],
  [isOldImatrix, "it is an importance matrix, which guides quantisation and is no model; give the model's own file"],
  [isSafetensors, "it is a safetensors file; give the folder in which it lies beside config.json and tokenizer.json"],
]

/** What a file is that does not begin with GGUF; null where it is unknown. Leaves the cursor where it was. */
export const otherFormat = (cursor: FileCursor): ModelUnsupported | null => {
  const back = cursor.offset
  cursor.offset = 0
  const head = cursor.take(Math.min(LOOKED_AT, cursor.size), "its first bytes")
  cursor.offset = back
  const reason = formats.find(([is]) => is(head))?.[1]
  return reason === undefined ? null : new ModelUnsupported({ file: cursor.file, reason })
}

/** Throws where a GGUF says of itself that it is no whole model. */
export const refuseOtherGguf = (file: string, metadata: Metadata): void => {
  const reason = kindOf(metadata)
  if (reason !== null) throw new ModelUnsupported({ file, reason })
}

const kindOf = (metadata: Metadata): string | null => {
  const parts = metadata.get("split.count")
  if (typeof parts === "number" && parts > 1) {
    const part = metadata.get("split.no")
    const which = typeof part === "number" ? `part ${part + 1} of ${parts}` : "one part of several"
    return `it is ${which}; join them with \`llama-gguf-split --merge FIRST-PART OUTPUT\` and give the output`
  }
  const type = metadata.get("general.type")
  if (type === "adapter" || metadata.has("adapter.type")) {
    const adapter = metadata.get("adapter.type") === "lora" ? "a LoRA adapter" : "an adapter"
    return `it is ${adapter}, which changes a model and is none by itself; merge it into its base with \`llama-export-lora\``
  }
  if (type === "imatrix" || metadata.has("imatrix.chunk_count")) {
    return "it is an importance matrix, which guides quantisation and is no model; give the model's own file"
  }
  if (type === "mmproj" || metadata.get("general.architecture") === "clip") {
    return "it is a projector for images or sound; give the language model's own file"
  }
  return null
}

/** What to do with a folder that lacks what a model's folder has; null where nothing in it tells. */
export const adviceOnFolder = (folder: string): string | null => {
  const names = namesIn(folder)
  if (names.includes("adapter_config.json")) {
    return "it holds an adapter (adapter_config.json), which changes a model and is none by itself; merge it into its base"
  }
  const ggufs = names.filter((name) => name.endsWith(".gguf"))
  if (ggufs.length === 1) return `give the path of the GGUF file in it, ${ggufs[0]}`
  if (ggufs.length > 1) return `give the path of one of the ${ggufs.length} GGUF files in it, such as ${ggufs[0]}`
  if (names.some((name) => /^(pytorch_model.*\.bin|consolidated\..*)$/.test(name))) {
    return "its weights are in another program's format; convert them to Hugging Face's safetensors or to GGUF"
  }
  return null
}

const namesIn = (folder: string): ReadonlyArray<string> => {
  try {
    return readdirSync(folder).toSorted()
  } catch {
    return [] // the caller has an error about the folder already
  }
}

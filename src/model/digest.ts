// What tells a model's weights from others': a hash of what the graphs know of it, and of samples of each tensor's bytes. All
// of them would be gigabytes; a model that was trained further, merged or quantized otherwise differs in the samples too.
import { createHash } from "node:crypto"
import { closeSync, openSync, readSync } from "node:fs"
import type { TensorSource } from "../../native/index.ts"
import type { Model } from "./model.ts"

/** From the beginning, the middle and the end of a tensor. */
const SAMPLE_BYTES = 2_048

/** Reads from the weight files; throws where they are not there any more. */
export const digestOf = ({ shape, tensors }: Pick<Model, "shape" | "tensors">): string => {
  const hash = createHash("sha256").update(JSON.stringify({ ...shape, ropeFactors: [...(shape.ropeFactors ?? [])] }))
  const files = new Map<string, number>()
  const buffer = Buffer.alloc(SAMPLE_BYTES)
  try {
    for (const { name, type, shape, file, offset, bytes } of byName(tensors)) {
      hash.update(JSON.stringify([name, type, shape, bytes]))
      const handle = files.get(file) ?? openSync(file, "r")
      files.set(file, handle)
      const last = Math.max(0, bytes - SAMPLE_BYTES)
      for (const at of [0, Math.floor(last / 2), last]) {
        const read = readSync(handle, buffer, 0, Math.min(SAMPLE_BYTES, bytes), offset + at)
        hash.update(buffer.subarray(0, read))
      }
    }
    return hash.digest("hex").slice(0, 32)
  } finally {
    for (const handle of files.values()) closeSync(handle)
  }
}

const byName = (tensors: ReadonlyArray<TensorSource>): ReadonlyArray<TensorSource> =>
  [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1))

// The safetensors format: eight bytes of header length, a JSON header, the data. Only the header is read.
// Format: https://github.com/huggingface/safetensors#format
import { Schema } from "effect"
import type { TensorSource } from "../../../native/index.ts"
import { Count } from "../../wire/scalar.ts"
import { ModelUnsupported } from "../errors.ts"
import { checkExtents } from "./extents.ts"
import { FileCursor } from "./fileCursor.ts"
import { decodeJson } from "./json.ts"

const MAX_HEADER = 100_000_000 // bytes, the format's own limit

const Header = Schema.Record(
  Schema.String,
  Schema.Struct({ dtype: Schema.String, shape: Schema.Array(Count), data_offsets: Schema.Tuple([Count, Count]) }),
)

const dtypes: ReadonlyMap<string, { type: string; bytes: number }> = new Map([
  ["F32", { type: "f32", bytes: 4 }],
  ["F16", { type: "f16", bytes: 2 }],
  ["BF16", { type: "bf16", bytes: 2 }],
])

export interface SafetensorsFile {
  readonly tensors: ReadonlyArray<TensorSource> // by their Hugging Face names; shapes turned to ggml's order
  readonly size: number // bytes of the file
}

export const readSafetensors = (file: string): SafetensorsFile =>
  FileCursor.read(file, (cursor) => {
    const length = cursor.u64("the header's length")
    if (length > MAX_HEADER || length > cursor.size - 8) {
      throw cursor.corrupt(`its header would be ${length} bytes long, the file has ${cursor.size}`)
    }
    const { __metadata__: _, ...header } = decodeJson(file, cursor.take(length, "the header").toString("utf8"), Loose)
    const entries = decodeJson(file, header, Header)
    const start = cursor.offset
    const tensors = Object.entries(entries).map(([name, entry]) => {
      const dtype = dtypes.get(entry.dtype)
      if (dtype === undefined) {
        throw new ModelUnsupported({ file, reason: `tensor ${name} is ${entry.dtype}; F32, F16 and BF16 are read` })
      }
      const [from, to] = entry.data_offsets
      const bytes = entry.shape.reduce((product, n) => product * n, dtype.bytes)
      if (to - from !== bytes) {
        throw cursor.corrupt(`tensor ${name} has ${to - from} bytes, ${entry.dtype} [${entry.shape}] takes ${bytes}`)
      }
      return { name, file, offset: start + from, bytes, type: dtype.type, shape: entry.shape.toReversed() }
    })
    checkExtents(cursor, tensors)
    const end = tensors.reduce((last, tensor) => Math.max(last, tensor.offset + tensor.bytes), start)
    if (end !== cursor.size) throw cursor.corrupt(`its tensors end at byte ${end}, the file has ${cursor.size}`)
    return { tensors, size: cursor.size }
  })

const Loose = Schema.Record(Schema.String, Schema.Unknown)

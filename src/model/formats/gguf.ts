// GGUF, versions 2 and 3, little-endian: metadata and where the tensors lie. Arrays of metadata (vocabularies) stay bytes
// until someone asks. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
import type { TensorSource } from "../../../native/index.ts"
import { ModelUnsupported } from "../errors.ts"
import { checkExtents } from "./extents.ts"
import { FileCursor } from "./fileCursor.ts"
import { otherFormat } from "./otherFiles.ts"
import { bytesOf, tensorTypes } from "./weights.ts"

export type MetadataValue = number | boolean | string | MetadataArray
export type Metadata = ReadonlyMap<string, MetadataValue>

export interface GgufFile {
  readonly metadata: Metadata
  readonly tensors: ReadonlyArray<TensorSource>
  readonly size: number // bytes of the file
}

const STRING = 8
const ARRAY = 9
const MAX_DIMENSIONS = 4

/** Readers of the fixed-size types, by GGUF's number. */
const scalars: ReadonlyMap<number, { bytes: number; read: (from: Buffer, at: number) => number | boolean }> = new Map([
  [0, { bytes: 1, read: (from, at) => from.readUInt8(at) }],
  [1, { bytes: 1, read: (from, at) => from.readInt8(at) }],
  [2, { bytes: 2, read: (from, at) => from.readUInt16LE(at) }],
  [3, { bytes: 2, read: (from, at) => from.readInt16LE(at) }],
  [4, { bytes: 4, read: (from, at) => from.readUInt32LE(at) }],
  [5, { bytes: 4, read: (from, at) => from.readInt32LE(at) }],
  [6, { bytes: 4, read: (from, at) => from.readFloatLE(at) }],
  [7, { bytes: 1, read: (from, at) => from.readUInt8(at) !== 0 }],
  [10, { bytes: 8, read: (from, at) => Number(from.readBigUInt64LE(at)) }],
  [11, { bytes: 8, read: (from, at) => Number(from.readBigInt64LE(at)) }],
  [12, { bytes: 8, read: (from, at) => from.readDoubleLE(at) }],
])

/** An array of metadata, decoded on demand. Its bytes were measured when the file was read. */
export class MetadataArray {
  readonly length: number
  readonly #type: number
  readonly #bytes: Buffer

  constructor(type: number, length: number, bytes: Buffer) {
    this.#type = type
    this.length = length
    this.#bytes = bytes
  }

  /** One after the other; null unless it holds strings. */
  strings(): Iterable<string> | null {
    return this.#type === STRING ? stringsIn(this.#bytes, this.length) : null
  }

  /** Null unless it holds numbers (or booleans, as 0 and 1). */
  numbers(): Array<number> | null {
    const scalar = scalars.get(this.#type)
    if (scalar === undefined) return null
    return Array.from({ length: this.length }, (_, i) => Number(scalar.read(this.#bytes, i * scalar.bytes)))
  }
}

const stringsIn = function* (bytes: Buffer, length: number): Iterable<string> {
  for (let i = 0, at = 0; i < length; i++) {
    const end = at + 8 + Number(bytes.readBigUInt64LE(at))
    yield bytes.toString("utf8", at + 8, end)
    at = end
  }
}

export const readGguf = (file: string): GgufFile =>
  FileCursor.read(file, (cursor) => {
    if (cursor.take(4, "the magic number").toString("latin1") !== "GGUF") {
      throw otherFormat(cursor) ?? cursor.corrupt("it does not begin with GGUF")
    }
    const version = cursor.u32("the version")
    if (version !== 2 && version !== 3) {
      const shown = version > 0xffff ? "big-endian GGUF" : `GGUF version ${version}`
      throw new ModelUnsupported({ file, reason: `${shown}; versions 2 and 3 (little-endian) are read` })
    }
    const tensorCount = cursor.u64("the number of tensors")
    const entries = cursor.u64("the number of metadata entries")
    const metadata = new Map<string, MetadataValue>()
    for (let i = 0; i < entries; i++) {
      const key = cursor.string(`the key of metadata entry ${i} of ${entries}`)
      if (metadata.has(key)) throw cursor.corrupt(`metadata entry ${key} is there twice`)
      metadata.set(key, readValue(cursor, cursor.u32(key), key))
    }
    const placed: Array<TensorSource> = []
    for (let i = 0; i < tensorCount; i++) placed.push(readTensor(cursor, `tensor ${i} of ${tensorCount}`))
    return { metadata, tensors: place(cursor, metadata, placed), size: cursor.size }
  })

const readValue = (cursor: FileCursor, type: number, key: string): MetadataValue => {
  if (type === STRING) return cursor.string(key)
  if (type === ARRAY) return readArray(cursor, key)
  const scalar = scalars.get(type)
  if (scalar === undefined) throw cursor.corrupt(`metadata entry ${key} has the unknown type ${type}`)
  return scalar.read(cursor.take(scalar.bytes, key), 0)
}

const readArray = (cursor: FileCursor, key: string): MetadataArray => {
  const type = cursor.u32(key)
  const length = cursor.u64(key)
  const scalar = scalars.get(type)
  if (scalar !== undefined) return new MetadataArray(type, length, cursor.take(length * scalar.bytes, key))
  if (type !== STRING) throw cursor.corrupt(`metadata entry ${key} is an array of the unknown type ${type}`)
  const from = cursor.offset
  for (let i = 0; i < length; i++) cursor.take(cursor.u64(key), key)
  const bytes = cursor.offset - from
  cursor.offset = from
  return new MetadataArray(type, length, cursor.take(bytes, key))
}

/** A tensor's entry; its offset still counts from the start of the data. */
const readTensor = (cursor: FileCursor, what: string): TensorSource => {
  const name = cursor.string(`the name of ${what}`)
  const dimensions = cursor.u32(`${what}, ${name}`)
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
    throw cursor.corrupt(`tensor ${name} has ${dimensions} dimensions; 1 to ${MAX_DIMENSIONS} are possible`)
  }
  const shape = Array.from({ length: dimensions }, () => cursor.u64(`the shape of ${name}`))
  const number = cursor.u32(`the type of ${name}`)
  const offset = cursor.u64(`the offset of ${name}`)
  const type = tensorTypes.get(number)
  if (type === undefined) {
    throw new ModelUnsupported({ file: cursor.file, reason: `tensor ${name} has the unknown ggml type ${number}` })
  }
  const bytes = shape.includes(0) ? null : bytesOf(type, shape)
  if (bytes === null) {
    throw cursor.corrupt(`tensor ${name} has shape [${shape}], not whole blocks of ${type.block} ${type.name} values`)
  }
  return { name, file: cursor.file, offset, bytes, type: type.name, shape }
}

/** Adds the start of the data to the offsets, and checks that every tensor lies in the file and none in another. */
const place = (cursor: FileCursor, metadata: Metadata, tensors: ReadonlyArray<TensorSource>): Array<TensorSource> => {
  const alignment = metadata.get("general.alignment") ?? 32
  if (typeof alignment !== "number" || alignment < 1 || !Number.isInteger(Math.log2(alignment))) {
    throw cursor.corrupt(`general.alignment is ${String(alignment)}; it has to be a power of two`)
  }
  const start = Math.ceil(cursor.offset / alignment) * alignment
  const placed = tensors.map((tensor) => {
    if (tensor.offset % alignment !== 0) {
      throw cursor.corrupt(`tensor ${tensor.name} begins at ${tensor.offset}, not at a multiple of ${alignment}`)
    }
    return { ...tensor, offset: start + tensor.offset }
  })
  checkExtents(cursor, placed)
  return placed
}

// Where everything in a sound GGUF file lies, so that it can be changed one field at a time, or cut to a smaller file.
// Written against the format's description and not against src/model, whose reader is what is tested.

export type FieldKind = "version" | "count" | "length" | "type" | "dimension" | "offset" | "scalar" | "text"

export interface Field {
  readonly kind: FieldKind
  readonly at: number
  readonly bytes: number
}

export interface Span {
  readonly from: number
  readonly to: number
}

export interface Entry extends Span {
  readonly key: string
  readonly valueAt: number // behind the type
  readonly items: ReadonlyArray<Span> // of an array
}

export interface TensorEntry extends Span {
  readonly name: string
  readonly shape: ReadonlyArray<number>
  readonly type: number
  readonly offset: number // from the start of the data
}

export interface Layout {
  readonly fields: ReadonlyArray<Field>
  readonly entries: ReadonlyArray<Entry>
  readonly tensors: ReadonlyArray<TensorEntry>
  readonly dataAt: number
}

/** Of the header's two counts; the entries follow. */
export const TENSOR_COUNT_AT = 8
export const ENTRY_COUNT_AT = 16
export const HEADER_BYTES = 24

const SCALAR_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8] // by type; a string and an array have none
const STRING = 8
const ARRAY = 9
export const ALIGNMENT = 32

export const layoutOf = (file: Buffer): Layout => {
  const fields: Array<Field> = []
  let at = 4
  const number = (kind: FieldKind, bytes: number): number => {
    fields.push({ kind, at, bytes })
    at += bytes
    return bytes === 8 ? Number(file.readBigUInt64LE(at - 8)) : file.readUIntLE(at - bytes, bytes)
  }
  const text = (): string => {
    const length = number("length", 8)
    if (length > 0) fields.push({ kind: "text", at, bytes: length })
    at += length
    return file.toString("utf8", at - length, at)
  }
  number("version", 4)
  const tensorCount = number("count", 8)
  const entryCount = number("count", 8)
  const value = (type: number): void => {
    if (type === STRING) text()
    else number("scalar", SCALAR_BYTES[type] ?? 0)
  }
  const entries = Array.from({ length: entryCount }, (): Entry => {
    const from = at
    const key = text()
    const type = number("type", 4)
    const valueAt = at
    const items: Array<Span> = []
    if (type !== ARRAY) value(type)
    else {
      const itemType = number("type", 4)
      const count = number("count", 8)
      for (let i = 0; i < count; i++) {
        const itemAt = at
        value(itemType)
        items.push({ from: itemAt, to: at })
      }
    }
    return { from, to: at, key, valueAt, items }
  })
  const tensors = Array.from({ length: tensorCount }, (): TensorEntry => {
    const from = at
    const name = text()
    const dimensions = number("count", 4)
    const shape = Array.from({ length: dimensions }, () => number("dimension", 8))
    const type = number("type", 4)
    const offset = number("offset", 8)
    return { from, to: at, name, shape, type, offset }
  })
  return { fields, entries, tensors, dataAt: Math.ceil(at / ALIGNMENT) * ALIGNMENT }
}

/** A file of the given parts; the counts are those of the parts. */
export const assemble = (
  entries: ReadonlyArray<Buffer>,
  tensors: ReadonlyArray<Buffer>,
  data: Buffer,
  version = 3,
): Buffer => {
  const header = Buffer.alloc(HEADER_BYTES)
  header.write("GGUF", "latin1")
  header.writeUInt32LE(version, 4)
  header.writeBigUInt64LE(BigInt(tensors.length), TENSOR_COUNT_AT)
  header.writeBigUInt64LE(BigInt(entries.length), ENTRY_COUNT_AT)
  const head = Buffer.concat([header, ...entries, ...tensors])
  return Buffer.concat([head, Buffer.alloc((ALIGNMENT - (head.length % ALIGNMENT)) % ALIGNMENT), data])
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
const string = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)])

export type EntryValue = string | number | boolean | ReadonlyArray<string> | ReadonlyArray<number>

/** A whole number is written as u32, another as f32. */
export const entry = (key: string, value: EntryValue): Buffer => Buffer.concat([string(key), ...typed(value)])

const typed = (value: EntryValue): Array<Buffer> => {
  if (typeof value === "string") return [u32(STRING), string(value)]
  if (typeof value === "boolean") return [u32(7), Buffer.from([value ? 1 : 0])]
  if (typeof value === "object") {
    const strings = typeof value[0] === "string"
    const items = value.map((item) => (typeof item === "string" ? string(item) : u32(item)))
    return [u32(ARRAY), u32(strings ? STRING : 4), u64(value.length), ...items]
  }
  if (Number.isInteger(value)) return [u32(4), u32(value)]
  const float = Buffer.alloc(4)
  float.writeFloatLE(value)
  return [u32(6), float]
}

export const tensorEntry = (tensor: Pick<TensorEntry, "name" | "shape" | "type" | "offset">): Buffer =>
  Buffer.concat([
    string(tensor.name),
    u32(tensor.shape.length),
    ...tensor.shape.map(u64),
    u32(tensor.type),
    u64(tensor.offset),
  ])

// One mutated model out of a sound one: blindly in the bytes, or knowing what the bytes mean.

import { GGUF_FILE, type Sound } from "./corpus.ts"
import {
  assemble,
  type EntryValue,
  entry,
  type Field,
  type FieldKind,
  HEADER_BYTES,
  type Layout,
  layoutOf,
} from "./ggufLayout.ts"
import { mutateJson } from "./mutateJson.ts"
import type { Random } from "./random.ts"

export interface Mutated {
  readonly file: string // the one that differs
  readonly bytes: Buffer | null // null: it is not there
}

export const mutate = (random: Random, sound: Sound): Mutated => {
  const file = sound.loader === "gguf" ? GGUF_FILE : fileOf(random, sound)
  let bytes = sound.files.get(file) ?? Buffer.alloc(0)
  if (random.chance(0.003)) return { file, bytes: null }
  const times = random.chance(0.75) ? 1 : 2 + random.below(3)
  for (let i = 0; i < times; i++) bytes = mutateOnce(random, file, bytes)
  return { file, bytes }
}

/** Weights and configuration more often than the rest. */
const fileOf = (random: Random, { files }: Sound): string => {
  const names = [...files.keys()]
  const weights = names.filter((name) => name.endsWith(".safetensors"))
  if (random.chance(0.45)) return random.pick(weights)
  return random.chance(0.4) ? "config.json" : random.pick(names)
}

const mutateOnce = (random: Random, file: string, bytes: Buffer): Buffer => {
  if (random.chance(0.3)) return blindly(random, bytes, headOf(file, bytes))
  try {
    if (file === GGUF_FILE) return random.chance(0.6) ? overwriteField(random, bytes) : rearrange(random, bytes)
    if (file.endsWith(".safetensors")) return mutateHeader(random, bytes)
    if (file.endsWith(".json")) return Buffer.from(mutateJson(random, bytes.toString("utf8")))
  } catch {
    // A former mutation has left nothing to understand.
  }
  return blindly(random, bytes, bytes.length)
}

/** Bytes that say where things are; what follows are weights, which may hold anything. */
const headOf = (file: string, bytes: Buffer): number => {
  if (bytes.length < 8) return bytes.length
  if (file.endsWith(".safetensors")) return Math.min(bytes.length, 8 + Number(bytes.readBigUInt64LE(0) & 0xffffffn))
  return file === GGUF_FILE ? Math.min(bytes.length, 30_000) : bytes.length
}

const blindly = (random: Random, bytes: Buffer, head: number): Buffer => {
  const at = random.below(random.chance(0.8) ? head : bytes.length)
  const span = random.pick([1, 2, 4, 8, 32, 500])
  switch (random.below(7)) {
    case 0:
      return bytes.subarray(0, at)
    case 1:
      return Buffer.concat([bytes, random.chance(0.5) ? Buffer.alloc(span) : random.bytes(span)])
    case 2:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + span)])
    case 3:
      return Buffer.concat([bytes.subarray(0, at), random.bytes(Math.min(span, 32)), bytes.subarray(at)])
    case 4:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + span), bytes.subarray(at)])
    case 5: {
      const changed = Buffer.from(bytes)
      for (let i = 0; i < 1 + random.below(6); i++) changed[random.below(head)] = random.below(256)
      return changed
    }
    default: {
      const changed = Buffer.from(bytes)
      const bit = random.below(8)
      changed[at] = (changed[at] ?? 0) ^ (1 << bit)
      return changed
    }
  }
}

const KINDS: ReadonlyArray<FieldKind> = [
  "version",
  "count",
  "count",
  "length",
  "type",
  "dimension",
  "offset",
  "scalar",
  "text",
]

const overwriteField = (random: Random, bytes: Buffer): Buffer => {
  const { fields } = layoutOf(bytes)
  const kind = random.pick(KINDS)
  const field = random.pick(fields.filter((one) => one.kind === kind))
  const changed = Buffer.from(bytes)
  if (field.kind === "text") changed[field.at + random.below(field.bytes)] = random.below(256)
  else write(changed, field, interesting(random, read(bytes, field), bytes.length, field.bytes))
  return changed
}

const read = (bytes: Buffer, { at, bytes: size }: Field): bigint =>
  size === 8 ? bytes.readBigUInt64LE(at) : BigInt(bytes.readUIntLE(at, size))

const write = (bytes: Buffer, { at, bytes: size }: Field, value: bigint): void => {
  const wrapped = BigInt.asUintN(8 * size, value)
  if (size === 8) bytes.writeBigUInt64LE(wrapped, at)
  else bytes.writeUIntLE(Number(wrapped), at, size)
}

/** Near what was there, near a border of the file or of a type, or such that a product with an item's size wraps around. */
const interesting = (random: Random, old: bigint, fileBytes: number, size: number): bigint => {
  const top = 1n << BigInt(8 * size)
  return random.pick([
    ...[0n, 1n, 2n, 3n, 8n, 9n, 31n, 33n, 255n, 65_536n, top - 1n, top / 2n, top / 2n - 1n, top / 2n + 1n],
    ...[old - 1n, old + 1n, old * 2n, old / 2n, old + 32n, old - 32n, old + 256n, -old],
    ...[BigInt(fileBytes), BigInt(fileBytes) - 1n, BigInt(fileBytes) + 1n, BigInt(fileBytes) - old],
    ...[top / 4n + 1n, top / 8n + 1n, top - old, (1n << 31n) - 1n, 1n << 31n, 1n << 32n, 1n << 53n, (1n << 53n) + 1n],
    BigInt(random.below(2 ** 32)),
  ])
}

/** Entries that are missing, come twice, are exchanged, or are new; the counts are right for them, or not. */
const rearrange = (random: Random, bytes: Buffer): Buffer => {
  const layout = layoutOf(bytes)
  const part = ({ from, to }: { from: number; to: number }) => bytes.subarray(from, to)
  const entries = layout.entries.map(part)
  const tensors = layout.tensors.map(part)
  const list = random.chance(0.5) ? entries : tensors
  const [one, other] = [random.below(list.length), random.below(list.length)]
  switch (random.below(6)) {
    case 0:
      list.splice(one, 1)
      break
    case 1:
      list.push(random.pick(list))
      break
    case 2: {
      const [a, b] = [list[one], list[other]]
      if (a !== undefined && b !== undefined) [list[one], list[other]] = [b, a]
      break
    }
    case 3:
      entries[random.below(entries.length)] = newEntry(random, layout)
      break
    default:
      entries.push(newEntry(random, layout))
  }
  const changed = assemble(entries, tensors, bytes.subarray(layout.dataAt), bytes.readUInt32LE(4))
  return random.chance(0.9) ? changed : Buffer.concat([bytes.subarray(0, HEADER_BYTES), changed.subarray(HEADER_BYTES)])
}

const newEntry = (random: Random, { entries }: Layout): Buffer => {
  const key = random.chance(0.6)
    ? random.pick(entries).key
    : random.pick([
        "general.alignment",
        "split.count",
        "llama.vocab_size",
        "llama.rope.scaling.type",
        "",
        "x".repeat(99),
      ])
  const values: ReadonlyArray<EntryValue> = [0, 1, 3, 2 ** 31, 2 ** 32 - 1, 0.5, -1.5, true, "", "gpt2", "linear", "\0"]
  const lists: ReadonlyArray<EntryValue> = [[], [0], ["a"], ["a b", "b", "  ", ""], new Array<number>(600).fill(3)]
  return entry(key, random.pick([...values, ...lists]))
}

/** The JSON of a safetensors file, with a length that is right for it, or not. */
const mutateHeader = (random: Random, bytes: Buffer): Buffer => {
  const length = Number(bytes.readBigUInt64LE(0))
  const json = bytes.subarray(8, 8 + length)
  const data = bytes.subarray(8 + length)
  if (random.chance(0.1)) {
    const changed = Buffer.from(bytes)
    write(changed, { kind: "length", at: 0, bytes: 8 }, interesting(random, BigInt(length), bytes.length, 8))
    return changed
  }
  const mutated = Buffer.from(
    random.chance(0.5) ? mutateTensor(random, json.toString("utf8")) : mutateJson(random, json.toString("utf8")),
  )
  const head = Buffer.alloc(8)
  head.writeBigUInt64LE(BigInt(mutated.length))
  return Buffer.concat([head, mutated, data])
}

/** A tensor that lies elsewhere, is of another type or shape, whose bytes go with that, or not. */
const mutateTensor = (random: Random, json: string): string => {
  const header: Record<string, { dtype: string; shape: Array<number>; data_offsets: [number, number] }> =
    JSON.parse(json)
  const names = Object.keys(header).filter((name) => name !== "__metadata__")
  const [name, other] = [random.pick(names), random.pick(names)]
  const [tensor, neighbour] = [header[name], header[other]]
  if (tensor === undefined || neighbour === undefined) return json
  const [from, to] = tensor.data_offsets
  const step = random.pick([1, 2, 3, 4, 32, to - from, 2 ** 31, 2 ** 53])
  switch (random.below(8)) {
    case 0:
      tensor.data_offsets = [from + step, to + step]
      break
    case 1:
      tensor.data_offsets = [from - step, to - step]
      break
    case 2:
      tensor.data_offsets = [...neighbour.data_offsets]
      break
    case 3:
      tensor.dtype = random.pick(["F32", "F16", "BF16", "I8", "F64", "BOOL"])
      break
    case 4:
      tensor.shape = [...tensor.shape.toReversed()]
      break
    case 5:
      tensor.shape = random.pick([[], [0], [to - from], [...tensor.shape, 1], [1, ...tensor.shape], [2 ** 32, 2 ** 32]])
      break
    case 6:
      tensor.shape = tensor.shape.map((n) => n * random.pick([1, 2, 2 ** 20, 2 ** 31]))
      break
    default:
      header[name] = neighbour
      header[other] = tensor
  }
  return JSON.stringify(header)
}

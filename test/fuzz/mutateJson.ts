// Mutations of a JSON document that keep it a document: values of other kinds and sizes, keys that come twice or are
// names of JavaScript's own, nesting without end.
import type { Random } from "./random.ts"

type Json = null | boolean | number | string | Array<Json> | { [key: string]: Json }

const NUMBERS = [
  ...[
    0,
    1,
    -1,
    2,
    3,
    7,
    31,
    33,
    255,
    256,
    65_535,
    65_536,
    2 ** 24,
    2 ** 28,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 32,
    2 ** 32 + 1,
  ],
  ...[
    2 ** 53 - 1,
    2 ** 53,
    2 ** 53 + 2,
    2 ** 63,
    2 ** 64,
    -(2 ** 31),
    -(2 ** 53),
    1e300,
    -1e300,
    0.5,
    1.5,
    1e-9,
    1e-300,
  ],
]
const TEXTS = ["", "\0", "F32", "F16", "BF16", "I64", "F8_E4M3", "llama", "qwen3", "../x", "/etc/passwd", "￿", "\ud800"]
const KEYS = ["__proto__", "constructor", "prototype", "toString", "", "\0", "x".repeat(300)]
const DEPTHS = [10, 1_000, 20_000, 300_000]

/** The text of a document that differs in one place, or not quite a document any more. */
export const mutateJson = (random: Random, text: string): string => {
  const document: Json = JSON.parse(text)
  if (random.chance(0.08)) return nested(random, text)
  if (random.chance(0.05)) return doubled(random, text)
  const { holder, key } = place(random, document)
  if (holder === null) return JSON.stringify(value(random, document))
  if (Array.isArray(holder)) changeItem(random, holder, Number(key))
  else changeField(random, holder, key)
  return JSON.stringify(document)
}

/** Somewhere in the document, the outer parts as likely as the inner ones. */
const place = (
  random: Random,
  document: Json,
): { holder: Array<Json> | { [key: string]: Json } | null; key: string } => {
  let holder: Json = document
  for (;;) {
    if (typeof holder !== "object" || holder === null) return { holder: null, key: "" }
    const keys = Object.keys(holder)
    if (keys.length === 0) return { holder: null, key: "" }
    const key = random.pick(keys)
    const inner: Json | undefined = Array.isArray(holder) ? holder[Number(key)] : holder[key]
    if (typeof inner !== "object" || inner === null || Object.keys(inner).length === 0 || random.chance(0.25)) {
      return { holder, key }
    }
    holder = inner
  }
}

const changeItem = (random: Random, holder: Array<Json>, index: number): void => {
  const kind = random.below(6)
  if (kind === 0) holder.splice(index, 1)
  else if (kind === 1) holder.push(...holder.slice(0, 5))
  else if (kind === 2) holder.length = index
  else holder[index] = value(random, holder[index] ?? null)
}

const changeField = (random: Random, holder: { [key: string]: Json }, key: string): void => {
  const old = holder[key] ?? null
  const kind = random.below(8)
  if (kind === 0) delete holder[key]
  else if (kind === 1) put(holder, random.pick(KEYS), old)
  else if (kind === 2) {
    delete holder[key]
    put(holder, `${key}${random.pick(["x", "\0", " "])}`, old)
  } else if (kind === 3) holder[key] = holder[random.pick(Object.keys(holder))] ?? null
  else holder[key] = value(random, old)
}

/** As JSON.parse does: "__proto__" is a key like any other. */
const put = (holder: { [key: string]: Json }, key: string, value: Json): void => {
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true })
}

const value = (random: Random, old: Json): Json => {
  if (typeof old === "number" && random.chance(0.6)) {
    return random.chance(0.4) ? old + random.pick([-2, -1, 1, 2, 32, 64]) : random.pick(NUMBERS)
  }
  if (typeof old === "string" && random.chance(0.5)) return random.chance(0.5) ? random.pick(TEXTS) : old.repeat(3)
  if (Array.isArray(old) && random.chance(0.5))
    return random.chance(0.5) ? [...old, random.pick(NUMBERS)] : old.toReversed()
  return random.pick<Json>([
    null,
    true,
    false,
    random.pick(NUMBERS),
    random.pick(TEXTS),
    [],
    {},
    [[]],
    [old],
    { a: old },
  ])
}

/** Brackets that open and open; half of them close again. */
const nested = (random: Random, text: string): string => {
  const depth = random.pick(DEPTHS)
  const [open, close] = random.pick([
    ["[", "]"],
    ['{"a":', "}"],
  ])
  const inside = random.chance(0.5) ? close.repeat(depth) : ""
  const deep = `${open.repeat(depth)}${inside === "" ? "" : "1"}${inside}`
  const colons = [...text.matchAll(/:/g)].map(({ index }) => index)
  const at = colons.length === 0 ? 0 : random.pick(colons) + 1
  return random.chance(0.2) ? deep : `${text.slice(0, at)}${deep},"z":${text.slice(at)}`
}

/** A key that comes twice with two values. */
const doubled = (random: Random, text: string): string => {
  const keys = [...text.matchAll(/"([^"\\]*)":/g)]
  if (keys.length === 0) return text + text
  const { index, 0: key } = random.pick(keys)
  return `${text.slice(0, index)}${key}${JSON.stringify(value(random, 1))},${text.slice(index)}`
}

// Values of a template as Python has them: how they print, when they are equal, what their JSON is. The library's own ways
// are JavaScript's, and a template would make other text than with transformers.
import { Environment, type Value } from "./library.ts"

/** The library's value of JavaScript's. */
export const wrap = (value: unknown): Value => new Environment().set("value", value)

const FLOAT = "FloatValue"

export const isUndefined = ({ type }: Value): boolean => type === "UndefinedValue"
export const isNone = ({ type }: Value): boolean => type === "NullValue"
const isTuple = ({ type }: Value): boolean => type === "TupleValue"

export const textOf = ({ value }: Value): string | undefined => (typeof value === "string" ? value : undefined)
export const listOf = ({ value }: Value): ReadonlyArray<Value> | undefined => (Array.isArray(value) ? value : undefined)
export const mapOf = ({ value }: Value): ReadonlyMap<string, Value> | undefined =>
  value instanceof Map ? value : undefined

/** True and False are numbers too. */
export const numberOf = ({ value }: Value): number | undefined =>
  typeof value === "number" || typeof value === "boolean" ? Number(value) : undefined

/** What a loop goes over. */
export const itemsOf = (value: Value): ReadonlyArray<Value> | undefined => {
  const text = textOf(value)
  if (text !== undefined) return Array.from(text, wrap)
  if (isUndefined(value)) return []
  const map = mapOf(value)
  return map === undefined ? listOf(value) : Array.from(map.keys(), wrap)
}

/** str(value). */
export const str = (value: Value): string => textOf(value) ?? (isUndefined(value) ? "" : repr(value))

const repr = (value: Value): string => {
  const text = textOf(value)
  if (text !== undefined) return quoted(text)
  if (isUndefined(value)) return "Undefined"
  if (isNone(value)) return "None"
  if (typeof value.value === "boolean") return value.value ? "True" : "False"
  if (typeof value.value === "number") return value.type === FLOAT ? float(value.value) : String(value.value)
  const list = listOf(value)?.map(repr)
  if (list !== undefined && isTuple(value)) return list.length === 1 ? `(${list.join("")},)` : `(${list.join(", ")})`
  if (list !== undefined) return `[${list.join(", ")}]`
  const map = mapOf(value)
  if (map === undefined) throw new Error(`a ${value.type} cannot be printed`)
  return `{${Array.from(map, ([key, one]) => `${quoted(key)}: ${repr(one)}`).join(", ")}}`
}

/** Python has as many digits as are needed, like JavaScript, and an exponent below -4 and from 16 on. */
const float = (value: number): string => {
  if (Number.isNaN(value)) return "nan"
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf"
  if (Object.is(value, -0)) return "-0.0"
  const [digits = "", power = ""] = value.toExponential().split("e")
  const exponent = Number(power)
  if (value !== 0 && (exponent < -4 || exponent >= 16)) {
    return `${digits}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`
  }
  if (Number.isInteger(value)) return `${value}.0`
  return exponent < 0 ? value.toFixed(digits.replace(/^-?\d\.?/, "").length - exponent) : String(value)
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ["\\", "\\\\"],
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
])

/** repr of a string: in single quotes unless only those are in it; what does not print is escaped. */
const quoted = (text: string): string => {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'"
  const body = text.replaceAll(/[\\'"]|[\p{C}\p{Z}]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0
    const hex = code.toString(16)
    if (character === quote) return `\\${character}`
    if (character === "'" || character === '"' || character === " ") return character
    const known = ESCAPES.get(character)
    if (known !== undefined) return known
    if (code < 0x100) return `\\x${hex.padStart(2, "0")}`
    return code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`
  })
  return quote + body + quote
}

export const equal = (a: Value, b: Value): boolean => {
  const [one, other] = [numberOf(a), numberOf(b)]
  if (one !== undefined || other !== undefined) return one === other
  if (isUndefined(a) || isNone(a)) return a.type === b.type
  const [items, others] = [listOf(a), listOf(b)]
  if (items !== undefined && others !== undefined) {
    return (
      isTuple(a) === isTuple(b) &&
      items.length === others.length &&
      items.every((item, i) => equal(item, others[i] ?? item))
    )
  }
  const [map, otherMap] = [mapOf(a), mapOf(b)]
  if (map === undefined || otherMap === undefined) return a.value === b.value
  return (
    map.size === otherMap.size &&
    Array.from(map).every(([key, item]) => {
      const theirs = otherMap.get(key)
      return theirs !== undefined && equal(item, theirs)
    })
  )
}

export interface JsonOptions {
  readonly ascii: boolean
  readonly indent: string | null
  readonly separators: readonly [string, string] // between items, behind a key
  readonly sorted: boolean
}

/** json.dumps(value). */
export const json = (value: Value, options: JsonOptions, padding = "\n"): string => {
  const { ascii, indent, separators, sorted } = options
  const text = (text: string) => {
    const plain = JSON.stringify(text)
    if (!ascii) return plain
    return plain.replaceAll(/[\x7f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
  }
  const inner = padding + (indent ?? "")
  const around = (open: string, items: ReadonlyArray<string>, close: string) => {
    if (items.length === 0 || indent === null) return open + items.join(separators[0]) + close
    return open + inner + items.join(separators[0] + inner) + padding + close
  }
  const { value: own, type } = value
  if (typeof own === "string") return text(own)
  if (typeof own === "boolean") return String(own)
  if (typeof own === "number") {
    if (Number.isFinite(own)) return type === FLOAT ? float(own) : String(own)
    return Number.isNaN(own) ? "NaN" : own > 0 ? "Infinity" : "-Infinity"
  }
  if (isNone(value)) return "null"
  const list = listOf(value)
  if (list !== undefined)
    return around(
      "[",
      list.map((item) => json(item, options, inner)),
      "]",
    )
  const map = mapOf(value)
  if (map === undefined || type === "NamespaceValue") throw new Error(`a ${type} is no JSON`)
  const entries = sorted ? Array.from(map).toSorted(([a], [b]) => (a < b ? -1 : 1)) : Array.from(map)
  const pairs = entries.map(([key, item]) => text(key) + separators[1] + json(item, options, inner))
  return around("{", pairs, "}")
}

/** What str.isspace is true of. */
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"
const LEADING = new RegExp(`^[${SPACE}]+`)
const WORD = new RegExp(`[^${SPACE}]+`, "g")

/** str.strip and its sisters. */
export const stripped = (text: string, side: "left" | "right" | "both", characters?: string): string => {
  const set = new Set(characters ?? "")
  const goes = (character: string) => (characters === undefined ? LEADING.test(character) : set.has(character))
  const units = Array.from(text)
  const first = side === "right" ? 0 : units.findIndex((character) => !goes(character))
  if (first === -1) return ""
  const last = side === "left" ? units.length - 1 : units.findLastIndex((character) => !goes(character))
  return units.slice(first, last + 1).join("")
}

/** str.split: at white space without a separator. */
export const split = (text: string, separator: string | undefined, most: number): ReadonlyArray<string> => {
  if (separator === "") throw new Error("empty separator")
  const parts: Array<string> = []
  if (separator !== undefined) {
    const all = text.split(separator)
    return most < 0 || all.length <= most ? all : [...all.slice(0, most), all.slice(most).join(separator)]
  }
  for (const { 0: word, index } of text.matchAll(WORD)) {
    if (most >= 0 && parts.length === most) return [...parts, stripped(text.slice(index), "left")]
    parts.push(word)
  }
  return parts
}

/** str.rsplit. */
export const splitFromRight = (text: string, separator: string | undefined, most: number): ReadonlyArray<string> => {
  const all = split(text, separator, -1)
  if (most < 0 || all.length <= most) return all
  if (separator === undefined) throw new Error("rsplit at white space needs no maxsplit here")
  const kept = all.length - most
  return [all.slice(0, kept).join(separator), ...all.slice(kept)]
}

/** str.capitalize and the words of str.title. */
export const capitalized = (text: string): string => {
  const [first = "", ...rest] = Array.from(text)
  return first.toUpperCase() + rest.join("").toLowerCase()
}

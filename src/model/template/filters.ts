// Filters and methods of a template that differ from Python's in the library, as Jinja and Python have them. What is not
// here is the library's, or refused by it.
import type { Value } from "./library.ts"
import {
  capitalized,
  equal,
  isUndefined,
  itemsOf,
  type JsonOptions,
  json,
  listOf,
  mapOf,
  numberOf,
  split,
  splitFromRight,
  str,
  stripped,
  textOf,
  wrap,
} from "./values.ts"

export interface Given {
  readonly positional: ReadonlyArray<Value>
  readonly named: ReadonlyMap<string, Value>
}

type Filter = (value: Value, given: Given) => Value

const argument = ({ positional, named }: Given, at: number, name: string): Value | undefined =>
  positional[at] ?? named.get(name)

/** Refuses what a filter does not know, rather than pass it over. */
const only =
  (names: ReadonlyArray<string>, filter: Filter): Filter =>
  (value, given) => {
    const strange = Array.from(given.named.keys()).find((name) => !names.includes(name))
    if (strange !== undefined) throw new Error(`a filter or method takes no argument ${strange}`)
    if (given.positional.length > names.length) throw new Error("a filter or method has too many arguments")
    return filter(value, given)
  }

const text = (value: Value | undefined): string | undefined => {
  if (value === undefined || value.type === "NullValue") return undefined
  const found = textOf(value)
  if (found === undefined) throw new Error(`a text is needed, not a ${value.type}`)
  return found
}

const flag = (value: Value | undefined): boolean => value?.__bool__().value === true

const length = (value: Value): number => {
  const count = isUndefined(value) ? 0 : itemsOf(value)?.length
  if (count === undefined) throw new Error(`a ${value.type} has no length`)
  return count
}

const join = (value: Value, separator: Value | undefined): string => {
  const items = itemsOf(value)
  if (items === undefined) throw new Error(`a ${value.type} cannot be joined`)
  return items.map(str).join(separator === undefined ? "" : str(separator))
}

const jsonOptions = (given: Given): JsonOptions => {
  const indent = argument(given, 1, "indent")
  const pair = argument(given, 2, "separators")
  const width = indent === undefined || indent.type === "NullValue" ? null : (numberOf(indent) ?? text(indent) ?? "")
  const separators = pair === undefined || pair.type === "NullValue" ? undefined : listOf(pair)?.map(str)
  return {
    ascii: flag(argument(given, 0, "ensure_ascii")),
    indent: typeof width === "number" ? " ".repeat(Math.max(0, width)) : width,
    separators: [separators?.[0] ?? (width === null ? ", " : ","), separators?.[1] ?? ": "],
    sorted: flag(argument(given, 3, "sort_keys")),
  }
}

const integer = (value: Value): number | undefined => {
  const number = numberOf(value)
  if (number !== undefined) return Number.isFinite(number) ? Math.trunc(number) : undefined
  const digits = /^\s*([+-]?\d+(?:_\d+)*)\s*$/.exec(textOf(value) ?? "")?.[1]
  return digits === undefined ? fractional(value, Math.trunc) : Number(digits.replaceAll("_", ""))
}

const fractional = (value: Value, make: (number: number) => number): number | undefined => {
  const found =
    numberOf(value) ??
    (/^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i.test(textOf(value) ?? "") ? Number(textOf(value)) : undefined)
  return found === undefined || !Number.isFinite(found) ? undefined : make(found)
}

const title = (text: string): string => text.replaceAll(/[^\s({[<-]+/g, capitalized)

const trim =
  (side: "left" | "right" | "both"): Filter =>
  (value, given) =>
    wrap(stripped(str(value), side, text(argument(given, 0, "chars"))))

const replaced: Filter = (value, given) => {
  const [from, to] = [text(argument(given, 0, "old")), text(argument(given, 1, "new"))]
  const count = numberOf(argument(given, 2, "count") ?? wrap(-1)) ?? -1
  if (from === undefined || to === undefined) throw new Error("replace needs two texts")
  const parts = from === "" ? ["", ...Array.from(str(value)), ""] : str(value).split(from)
  if (count < 0 || parts.length <= count) return wrap(parts.join(to))
  return wrap([...parts.slice(0, count), parts.slice(count).join(from)].join(to))
}

const otherwise: Filter = (value, given) => {
  const unset = isUndefined(value) || (flag(argument(given, 1, "boolean")) && !flag(value))
  return unset ? (argument(given, 0, "default_value") ?? wrap("")) : value
}

const unknownFor = (value: Value): never => {
  throw new Error(`a filter is not known for a ${value.type}`)
}
const edge = (value: Value, at: 0 | -1): Value => (itemsOf(value) ?? unknownFor(value)).at(at) ?? wrap(undefined)

/** By name; each with the names of its arguments in order. */
export const filters: ReadonlyMap<string, Filter> = new Map<string, Filter>([
  ["string", only([], (value) => wrap(str(value)))],
  ["trim", only(["chars"], trim("both"))],
  [
    "tojson",
    only(["ensure_ascii", "indent", "separators", "sort_keys"], (value, given) =>
      wrap(json(value, jsonOptions(given))),
    ),
  ],
  ["length", only([], (value) => wrap(length(value)))],
  ["count", only([], (value) => wrap(length(value)))],
  ["upper", only([], (value) => wrap(str(value).toUpperCase()))],
  ["lower", only([], (value) => wrap(str(value).toLowerCase()))],
  ["capitalize", only([], (value) => wrap(capitalized(str(value))))],
  ["title", only([], (value) => wrap(title(str(value))))],
  ["join", only(["d"], (value, given) => wrap(join(value, argument(given, 0, "d"))))],
  ["replace", only(["old", "new", "count"], replaced)],
  ["default", only(["default_value", "boolean"], otherwise)],
  ["d", only(["default_value", "boolean"], otherwise)],
  [
    "int",
    only(["default"], (value, given) => {
      const number = integer(value)
      return number === undefined ? (argument(given, 0, "default") ?? wrap(0)) : wrap(number)
    }),
  ],
  ["first", only([], (value) => edge(value, 0))],
  ["last", only([], (value) => edge(value, -1))],
  ["list", only([], (value) => wrapList(itemsOf(value) ?? unknownFor(value)))],
  [
    "items",
    only([], (value) => {
      if (isUndefined(value)) return wrap([])
      const map = mapOf(value) ?? unknownFor(value)
      return wrapList(Array.from(map, ([key, item]) => wrapList([wrap(key), item])))
    }),
  ],
])

/** A list of the library's own values. */
const wrapList = (items: ReadonlyArray<Value>): Value => {
  const list = wrap([])
  if (Array.isArray(list.value)) list.value.push(...items)
  return list
}

const counted = (given: Given): number => numberOf(argument(given, 1, "maxsplit") ?? wrap(-1)) ?? -1

/** Of a text. */
export const methods: ReadonlyMap<string, Filter> = new Map<string, Filter>([
  ["strip", only(["chars"], trim("both"))],
  ["lstrip", only(["chars"], trim("left"))],
  ["rstrip", only(["chars"], trim("right"))],
  [
    "split",
    only(["sep", "maxsplit"], (value, given) =>
      wrap(split(str(value), text(argument(given, 0, "sep")), counted(given))),
    ),
  ],
  [
    "rsplit",
    only(["sep", "maxsplit"], (value, given) =>
      wrap(splitFromRight(str(value), text(argument(given, 0, "sep")), counted(given))),
    ),
  ],
  ["replace", only(["old", "new", "count"], replaced)],
  ["upper", only([], (value) => wrap(str(value).toUpperCase()))],
  ["lower", only([], (value) => wrap(str(value).toLowerCase()))],
  ["capitalize", only([], (value) => wrap(capitalized(str(value))))],
  ["title", only([], (value) => wrap(str(value).replaceAll(/\p{L}+/gu, capitalized)))],
  ["join", only(["iterable"], (value, given) => wrap(join(argument(given, 0, "iterable") ?? wrap(1), value)))],
])

/** Tests by name. */
export const tests: ReadonlyMap<string, (value: Value) => boolean> = new Map<string, (value: Value) => boolean>([
  ["iterable", (value) => itemsOf(value) !== undefined],
  ["sequence", (value) => itemsOf(value) !== undefined],
  ["number", (value) => numberOf(value) !== undefined],
])

export const contains = (item: Value, container: Value): boolean => {
  const whole = textOf(container)
  if (whole !== undefined) {
    const part = textOf(item)
    if (part === undefined) throw new Error(`a ${item.type} is in no text`)
    return whole.includes(part)
  }
  const items = itemsOf(container)
  if (items === undefined) throw new Error(`nothing is in a ${container.type}`)
  return items.some((one) => equal(one, item))
}

// Normalizers and pre-tokenizers of a tokenizer.json, with the results of the Rust library "tokenizers"; docs/MODELS.md says
// what was compared. Of those that byte-level models do not use there is none: a file that names one is refused by its name.
import { Schema } from "effect"
import { shown } from "../formats/json.ts"
import { toByteLevel } from "./byteLevel.ts"
import { Behavior, cutAt, expressionOf, Pattern, stretchesOf } from "./pattern.ts"

/** A part of a tokenizer.json that is not implemented; the message says which. */
export class UnsupportedComponent extends Error {}

const MAX_DEPTH = 16 // of sequences in one another

export type Normalize = (text: string) => string
export type Cut = (text: string) => ReadonlyArray<string>

const Typed = Schema.Struct({ type: Schema.String })

const Normalizer = Schema.Union([
  Schema.Struct({ type: Schema.Literals(["NFC", "NFD", "NFKC", "NFKD", "Lowercase"]) }),
  Schema.Struct({ type: Schema.Literal("Replace"), pattern: Pattern, content: Schema.String }),
  Schema.Struct({ type: Schema.Literal("Prepend"), prepend: Schema.String }),
  Schema.Struct({ type: Schema.Literal("Strip"), strip_left: Schema.Boolean, strip_right: Schema.Boolean }),
  Schema.Struct({ type: Schema.Literal("Sequence"), normalizers: Schema.Array(Schema.Unknown) }),
])
const normalizers = "NFC, NFD, NFKC, NFKD, Lowercase, Replace, Prepend, Strip and Sequence"

const flag = Schema.optionalKey(Schema.Boolean)

const PreTokenizer = Schema.Union([
  Schema.Struct({ type: Schema.Literal("ByteLevel"), add_prefix_space: flag, use_regex: flag }),
  Schema.Struct({ type: Schema.Literal("Split"), pattern: Pattern, behavior: Behavior, invert: flag }),
  Schema.Struct({ type: Schema.Literal("Digits"), individual_digits: flag }),
  Schema.Struct({ type: Schema.Literal("Punctuation"), behavior: Schema.optionalKey(Behavior) }),
  Schema.Struct({ type: Schema.Literal("Sequence"), pretokenizers: Schema.Array(Schema.Unknown) }),
])
const preTokenizers = "ByteLevel, Split, Digits, Punctuation and Sequence"

/** Decodes a component, or throws with what there is and what is implemented. */
const decoded = <A>(what: string, json: unknown, is: (json: unknown) => json is A, implemented: string): A => {
  if (is(json)) return json
  const type = Schema.is(Typed)(json) ? json.type.slice(0, 80) : shown(json)
  const reason = implemented.split(/, | and /).includes(type)
    ? `its ${what} ${type} has settings that are not known here`
    : `its ${what} is ${type}; implemented are ${implemented}`
  throw new UnsupportedComponent(reason)
}

const isNormalizer = Schema.is(Normalizer)

export const normalizerOf = (json: unknown, depth = 0): Normalize => {
  if (json === null || json === undefined) return (text) => text
  if (depth > MAX_DEPTH) throw new UnsupportedComponent("its normalizers are nested too deep")
  const normalizer = decoded("normalizer", json, isNormalizer, normalizers)
  switch (normalizer.type) {
    case "Lowercase": // by characters: a final sigma is no other than one inside
      return (text) => Array.from(text, (character) => character.toLowerCase()).join("")
    case "Replace": {
      const { content } = normalizer
      const expression = compiled(normalizer.pattern)
      return (text) =>
        stretchesOf(expression, text)
          .map(({ from, to, match }) => (match ? content : text.slice(from, to)))
          .join("")
    }
    case "Prepend":
      return (text) => (text === "" ? text : normalizer.prepend + text)
    case "Strip":
      return (text) => stripped(text, normalizer.strip_left, normalizer.strip_right)
    case "Sequence": {
      const all = normalizer.normalizers.map((inner) => normalizerOf(inner, depth + 1))
      return (text) => all.reduce((changed, normalize) => normalize(changed), text)
    }
    default:
      return (text) => text.normalize(normalizer.type)
  }
}

/** Unicode's white space; JavaScript's trim takes U+FEFF and leaves U+0085. */
export const stripped = (text: string, left: boolean, right: boolean): string => {
  const begun = left ? text.replace(/^\p{White_Space}+/u, "") : text
  if (!right) return begun
  let end = begun.length
  while (end > 0 && /\p{White_Space}/u.test(begun[end - 1] ?? "")) end--
  return begun.slice(0, end)
}

const GPT2 =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu
const DIGIT = /\p{N}/gu
const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/gu

const isPreTokenizer = Schema.is(PreTokenizer)

export const preTokenizerOf = (json: unknown, depth = 0): Cut => {
  if (json === null || json === undefined) return (text) => [text]
  if (depth > MAX_DEPTH) throw new UnsupportedComponent("its pre-tokenizers are nested too deep")
  const cutter = decoded("pre-tokenizer", json, isPreTokenizer, preTokenizers)
  switch (cutter.type) {
    case "ByteLevel": {
      const { add_prefix_space: prefixed = false, use_regex: cuts = true } = cutter
      return (text) => {
        const whole = prefixed && !text.startsWith(" ") ? ` ${text}` : text
        return (cuts ? cutAt(GPT2, "Isolated", false, whole) : [whole]).map(toByteLevel)
      }
    }
    case "Split": {
      const { behavior, invert = false } = cutter
      const expression = compiled(cutter.pattern)
      return (text) => cutAt(expression, behavior, invert, text)
    }
    case "Digits": {
      const behavior = cutter.individual_digits === true ? "Isolated" : "Contiguous"
      return (text) => cutAt(DIGIT, behavior, false, text)
    }
    case "Punctuation":
      return (text) => cutAt(PUNCTUATION, cutter.behavior ?? "Isolated", false, text)
    case "Sequence": {
      const all = cutter.pretokenizers.map((inner) => preTokenizerOf(inner, depth + 1))
      return (text) => all.reduce<ReadonlyArray<string>>((pieces, cut) => pieces.flatMap(cut), [text])
    }
  }
}

const compiled = (pattern: Pattern): RegExp => {
  try {
    return expressionOf(pattern)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new UnsupportedComponent(`an expression in it cannot be used here: ${reason}`)
  }
}

// Patterns of a tokenizer.json, and how a text is cut at their matches, as the Rust library "tokenizers" cuts it.
import { Schema } from "effect"
import { translated } from "./library.ts"

export const Pattern = Schema.Union([Schema.Struct({ String: Schema.String }), Schema.Struct({ Regex: Schema.String })])
export type Pattern = typeof Pattern.Type

export const Behavior = Schema.Literals(["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"])
export type Behavior = typeof Behavior.Type

/** Throws a SyntaxError for an expression that JavaScript cannot take. */
export const expressionOf = (pattern: Pattern): RegExp => {
  if ("String" in pattern) return new RegExp(pattern.String.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "gu")
  return translated(pattern.Regex)
}

/** A stretch of a text, that matches or lies between matches. */
export interface Stretch {
  readonly from: number
  readonly to: number
  readonly match: boolean
}

/** All of a text, in order. An empty match counts, but not right behind another match. */
export const stretchesOf = (expression: RegExp, text: string): ReadonlyArray<Stretch> => {
  const stretches: Array<Stretch> = []
  let end = 0
  let lastMatch = -1
  for (const { 0: matched, index: from } of text.matchAll(expression)) {
    const to = from + matched.length
    if (matched === "" && from === lastMatch) continue
    if (from > end) stretches.push({ from: end, to: from, match: false })
    stretches.push({ from, to, match: true })
    end = to
    lastMatch = to
  }
  if (end < text.length) stretches.push({ from: end, to: text.length, match: false })
  return stretches
}

/** The pieces of a text that is cut at matches, or with `invert` at what lies between them. None is empty. */
export const cutAt = (expression: RegExp, behavior: Behavior, invert: boolean, text: string): ReadonlyArray<string> => {
  const stretches = stretchesOf(expression, text).map((stretch) => ({ ...stretch, match: stretch.match !== invert }))
  return joined(stretches, behavior)
    .filter(({ from, to }) => to > from)
    .map(({ from, to }) => text.slice(from, to))
}

const joined = (stretches: ReadonlyArray<Stretch>, behavior: Behavior): ReadonlyArray<Stretch> => {
  if (behavior === "Isolated") return stretches
  if (behavior === "Removed") return stretches.filter(({ match }) => !match)
  const all: Array<Stretch> = []
  const inOrder = behavior === "MergedWithNext" ? stretches.toReversed() : stretches
  let before: boolean | null = null // whether the last one was a match
  for (const stretch of inOrder) {
    const last = all.at(-1)
    const merges = behavior === "Contiguous" ? stretch.match === before : stretch.match && before === false
    if (merges && last !== undefined) all[all.length - 1] = { ...last, ...around(last, stretch) }
    else all.push(stretch)
    before = stretch.match
  }
  return behavior === "MergedWithNext" ? all.toReversed() : all
}

const around = (one: Stretch, other: Stretch) => ({
  from: Math.min(one.from, other.from),
  to: Math.max(one.to, other.to),
})

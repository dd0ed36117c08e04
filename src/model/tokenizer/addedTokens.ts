// Added tokens are found in a text before anything else is: control tokens and fixed texts. First those that are looked for
// in the text as it stands, then in what is left and normalized the others, each time from the left and the longest first.
import type { Normalize } from "./components.ts"
import type { AddedToken } from "./vocabulary.ts"

/** A piece of text, or the id of a token that was found. */
export type Section = string | number

interface Node {
  readonly next: Map<string, Node>
  token?: AddedToken // that ends here
}

const WORD = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]"
const ENDS_IN_WORD = new RegExp(`${WORD}$`, "u")
const BEGINS_WITH_WORD = new RegExp(`^${WORD}`, "u")

/** Gives the sections of a text, normalized. */
export const sectionsBy = (
  tokens: ReadonlyArray<AddedToken>,
  normalize: Normalize,
): ((text: string) => ReadonlyArray<Section>) => {
  const known = tokens.filter(({ content }) => content !== "")
  const isNormalized = ({ normalized, special }: AddedToken) => normalized ?? special !== true
  const literal = trieOf(known.filter((token) => !isNormalized(token)))
  const others = trieOf(known.filter(isNormalized).map((token) => ({ ...token, content: normalize(token.content) })))
  return (text) =>
    sectionsIn(literal, text).flatMap((section) =>
      typeof section === "number" ? [section] : sectionsIn(others, normalize(section)),
    )
}

const trieOf = (tokens: ReadonlyArray<AddedToken>): Node => {
  const root: Node = { next: new Map() }
  for (const token of tokens) {
    let node = root
    for (let i = 0; i < token.content.length; i++) {
      const unit = token.content.charAt(i)
      const next = node.next.get(unit) ?? { next: new Map() }
      node.next.set(unit, next)
      node = next
    }
    node.token ??= token
  }
  return root
}

const sectionsIn = (root: Node, text: string): ReadonlyArray<Section> => {
  if (root.next.size === 0) return text === "" ? [] : [text]
  const sections: Array<Section> = []
  let taken = 0 // up to here the text is in a section
  for (let at = 0; at < text.length; ) {
    const token = longestAt(root, text, at)
    if (token === undefined) {
      at++
      continue
    }
    let [from, to] = [at, at + token.content.length]
    at = to
    if (token.single_word === true && isInWord(text, from, to)) continue
    if (token.lstrip === true) from = Math.max(taken, beforeSpaces(text, from))
    if (token.rstrip === true) to = behindSpaces(text, to)
    if (from > taken) sections.push(text.slice(taken, from))
    sections.push(token.id)
    taken = to
  }
  if (taken < text.length) sections.push(text.slice(taken))
  return sections
}

const longestAt = (root: Node, text: string, from: number): AddedToken | undefined => {
  let found: AddedToken | undefined
  let node = root.next.get(text.charAt(from))
  for (let at = from + 1; node !== undefined; at++) {
    if (node.token !== undefined) found = node.token
    node = at < text.length ? node.next.get(text.charAt(at)) : undefined
  }
  return found
}

/** Whether a letter or digit lies right beside. Two units of the text are enough to see a character. */
const isInWord = (text: string, from: number, to: number): boolean =>
  ENDS_IN_WORD.test(text.slice(Math.max(0, from - 2), from)) || BEGINS_WITH_WORD.test(text.slice(to, to + 2))

const isSpace = (unit: string): boolean => /\p{White_Space}/u.test(unit)

const beforeSpaces = (text: string, end: number): number => {
  let at = end
  while (at > 0 && isSpace(text.charAt(at - 1))) at--
  return at
}

const behindSpaces = (text: string, start: number): number => {
  let at = start
  while (at < text.length && isSpace(text.charAt(at))) at++
  return at
}

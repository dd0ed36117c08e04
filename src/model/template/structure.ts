// Which control tokens of a rendered conversation are the template's own, and which are characters of a message. Both
// look the same in the text, so the template is rendered again with its own names marked: private characters around each,
// which no filter takes for anything. What was said can then look like structure and never be it, however it is trimmed,
// split, joined or made JSON.
//
// Some templates make names of parts ('<|' + role + '|>'), or look for them in what was said. Marks on their text would be
// missing, or in the way. There what was said is marked instead.

/** A piece of a prompt: in structure names of control tokens are those tokens, in the rest they are characters. */
export interface Part {
  readonly text: string
  readonly structure: boolean
}

export interface Said {
  readonly role: string
  readonly content: string
}

/** Marks of the kinds that a rendering may have; none of them is in anything that is rendered. */
export interface Marks {
  readonly open: string // before a name in the template's own text
  readonly close: string // after it
  readonly broken: string // within a name in what was said
}

/** Renders a conversation: as it is, or with the template's own text changed. */
export type Render = (said: ReadonlyArray<Said>, literal?: (text: string) => string) => string

/** Null where the template looks for names in what was said, and a message contains some: they cannot be told apart. */
export const partsOf = (
  render: Render,
  said: ReadonlyArray<Said>,
  names: Names,
  marks: Marks,
): ReadonlyArray<Part> | null => {
  const text = render(said)
  const literal = (own: string) => names.replace(own, (name) => marks.open + name + marks.close)
  const own = spansOf(render(said, literal), marks)
  const found = names.in(text)
  if (own.text === text) {
    const strange = found.filter((span) => !own.spans.some((one) => same(one, span)))
    if (strange.length === 0) return [{ text, structure: true }]
    if (!makesNames(() => render(said.map(neutral), literal), names, marks)) return cut(text, own.spans)
  }
  for (const expression of [names.beginnings, names.all]) {
    const spans = unbroken(render, said, { text, found, names, expression, mark: marks.broken })
    if (spans === null) continue
    return spans.length === found.length ? [{ text, structure: true }] : cut(text, spans)
  }
  return null
}

interface Breaking {
  readonly text: string
  readonly found: ReadonlyArray<Span>
  readonly names: Names
  readonly expression: RegExp
  readonly mark: string
}

/** The names that stay whole when those in what was said are broken; null where the template notices. */
const unbroken = (render: Render, said: ReadonlyArray<Said>, { text, found, names, expression, mark }: Breaking) => {
  const content = (text: string) => text.replaceAll(expression, (name) => name.slice(0, 1) + mark + name.slice(1))
  // A role may be a part of a name, and so choose among the template's own tokens; what is no word is for no template.
  const role = (text: string) =>
    /^[\w-]+$/.test(text) ? text : Array.from(text, (character) => character + mark).join("")
  const broken = render(said.map((one) => ({ role: role(one.role), content: content(one.content) })))
  if (broken.replaceAll(mark, "") !== text) return null
  const whole = new Set(names.in(broken).map(({ start }) => start - (broken.slice(0, start).split(mark).length - 1)))
  return found.filter(({ start }) => whole.has(start))
}

const neutral = ({ role }: Said): Said => ({ role, content: "x" })

/** Whether it makes names that do not stand in it, of nothing that was said. What then refuses to go on may do so too. */
const makesNames = (render: () => string, names: Names, { open, close }: Marks): boolean => {
  try {
    return names.in(render().replaceAll(new RegExp(`${open}[^${close}]*${close}`, "g"), close)).length > 0
  } catch {
    return true
  }
}

interface Span {
  readonly start: number
  readonly end: number
}

const same = (a: Span, b: Span): boolean => a.start === b.start && a.end === b.end

/** The text without its marks, and what they were around. */
const spansOf = (marked: string, { open, close }: Marks) => {
  const spans: Array<Span> = []
  let text = ""
  for (const [index, piece] of marked.split(open).entries()) {
    const [name, ...rest] = piece.split(close)
    if (index > 0 && rest.length > 0) spans.push({ start: text.length, end: text.length + (name ?? "").length })
    text += [name, ...rest].join("")
  }
  return { text, spans }
}

const cut = (text: string, spans: ReadonlyArray<Span>): ReadonlyArray<Part> => {
  const parts: Array<Part> = []
  let at = 0
  for (const { start, end } of [...spans, { start: text.length, end: text.length }]) {
    if (start > at) parts.push({ text: text.slice(at, start), structure: false })
    if (end > start) parts.push({ text: text.slice(start, end), structure: true })
    at = end
  }
  return parts
}

/** The names of a vocabulary's control tokens, found as the tokenizer finds them: from the left, the longest. */
export class Names {
  readonly #expression: RegExp
  readonly all: RegExp // in capitals too, since a filter may turn them into a name
  readonly beginnings: RegExp // likewise; what a filter may put together to a name

  constructor(names: ReadonlyArray<string>) {
    const longestFirst = names.filter((name) => name.length > 1).toSorted((a, b) => b.length - a.length)
    const source = oneOf(longestFirst)
    this.#expression = new RegExp(source, "g")
    this.all = new RegExp(source, "gi")
    const [pairs, firsts] = [2, 1].map((length) =>
      oneOf([...new Set(longestFirst.map((name) => name.slice(0, length)))]),
    )
    this.beginnings = new RegExp(`${pairs}|(?:${firsts})$`, "gi")
  }

  in(text: string): ReadonlyArray<Span> {
    return Array.from(text.matchAll(this.#expression), ({ 0: name, index }) => ({
      start: index,
      end: index + name.length,
    }))
  }

  replace(text: string, by: (name: string) => string): string {
    return text.replaceAll(this.#expression, by)
  }
}

const oneOf = (texts: ReadonlyArray<string>): string =>
  texts.length === 0 ? "(?!)" : texts.map((text) => text.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("|")

/** Private characters that none of the texts has. */
export const marksBeside = (texts: ReadonlyArray<string>): Marks => {
  const free: Array<string> = []
  for (let code = 0xe000; free.length < 3 && code < 0xf900; code++) {
    const mark = String.fromCharCode(code)
    if (!texts.some((text) => text.includes(mark))) free.push(mark)
  }
  const [open, close, broken] = free
  if (open === undefined || close === undefined || broken === undefined) {
    throw new Error("its messages have every character of Unicode's private use area")
  }
  return { open, close, broken }
}

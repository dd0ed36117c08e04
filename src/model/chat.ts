// A model's own chat template (Jinja), from its files.
import { Effect, Schema } from "effect"
import { TemplateFailed } from "./errors.ts"
import { within } from "./limit.ts"
import { parsed, rendered } from "./template/interpreter.ts"
import type { Node } from "./template/library.ts"
import { marksBeside, Names, type Part, partsOf, type Render } from "./template/structure.ts"

export interface ChatMessage {
  readonly role: string
  readonly content: string
}

/** Names of tokens; "" for one that there is not. */
export interface SpecialTokens {
  readonly bos: string
  readonly eos: string
  readonly controls: ReadonlyArray<string>
}

/** What a template may be told beside the messages, by the names that it has for it: `enable_thinking`. */
export type TemplateArguments = Readonly<Record<string, Schema.Json>>

export interface RenderOptions {
  /** Whether the text ends with the start of the assistant's turn. True. */
  readonly addGenerationPrompt?: boolean
  readonly arguments?: TemplateArguments
}

/** Characters of a template, and of what it may make beyond the messages themselves. The longest in use have some 20,000. */
const MAX_TEMPLATE = 200_000

/** Templates in use take a millisecond for a long conversation. */
const RENDER_MILLIS = 2_000

export class ChatTemplate {
  readonly source: string
  readonly #file: string
  readonly #tokens: SpecialTokens
  readonly #names: Names
  #program: Node | null = null

  /** Throws TemplateFailed for one that is too long; whether it parses is found out when it is first used. */
  constructor(file: string, source: string, tokens: SpecialTokens) {
    if (source.length > MAX_TEMPLATE) {
      throw new TemplateFailed({
        file,
        reason: `it has ${source.length} characters, at most ${MAX_TEMPLATE} are taken`,
      })
    }
    this.#file = file
    this.source = source
    this.#tokens = tokens
    this.#names = new Names(tokens.controls)
  }

  /** The prompt for a conversation. A template that wants bos writes it. */
  render(
    messages: ReadonlyArray<ChatMessage>,
    options: RenderOptions = {},
  ): Effect.Effect<ReadonlyArray<Part>, TemplateFailed> {
    return Effect.try({
      try: () => {
        const { bos, eos, controls } = this.#tokens
        const told = this.#textsOf(options.arguments ?? {})
        const said = messages.flatMap(({ role, content }) => [role, content])
        const marks = marksBeside([this.source, bos, eos, ...controls, ...said, ...told])
        const now = new Date()
        const render: Render = (messages, literal) => this.#once(messages, { ...options, now }, literal)
        const parts = partsOf(render, messages, this.#names, marks)
        if (parts !== null) return parts
        throw new Error("it looks for names of control tokens in messages, and these have some. Leave them out")
      },
      catch: (error) =>
        new TemplateFailed({ file: this.#file, reason: error instanceof Error ? error.message : String(error) }),
    })
  }

  /** All texts in what it is told. A name of a control token in them would be structure where a template makes names of parts. */
  #textsOf(told: TemplateArguments): ReadonlyArray<string> {
    const own = OWN_NAMES.find((name) => Object.hasOwn(told, name))
    if (own !== undefined) throw new Error(`${own} is what the request itself says. Leave it out of the arguments`)
    const texts = textsIn(told)
    if (!texts.some((text) => this.#names.in(text).length > 0)) return texts
    throw new Error("its arguments have the name of a control token. Leave it out")
  }

  /** With its own text as `literal` changes it. */
  #once(
    messages: ReadonlyArray<ChatMessage>,
    { addGenerationPrompt = true, arguments: told = {}, now }: RenderOptions & { readonly now: Date },
    literal?: (text: string) => string,
  ): string {
    const [bos_token, eos_token] = [this.#tokens.bos, this.#tokens.eos].map((text) => literal?.(text) ?? text)
    const own = {
      messages,
      add_generation_prompt: addGenerationPrompt,
      tools: null,
      documents: null,
      bos_token,
      eos_token,
    }
    const given = { ...told, ...own }
    const text = within(RENDER_MILLIS, () => {
      this.#program ??= parsed(this.source)
      return rendered(literal === undefined ? this.#program : parsed(this.source, literal), given, now)
    })
    if (text === null) throw new Error(`it took more than ${RENDER_MILLIS} ms`)
    const texts = [...messages.map(({ content }) => content), ...textsIn(told)]
    const said = texts.reduce((length, text) => length + text.length, 0)
    if (text.length > 2 * said + MAX_TEMPLATE) throw new Error(`it made ${text.length} characters of ${said}`)
    return text
  }
}

/** What a template is given by no argument. */
const OWN_NAMES = ["messages", "add_generation_prompt", "tools", "documents", "bos_token", "eos_token"]

const textsIn = (value: Schema.Json): ReadonlyArray<string> => {
  if (typeof value === "string") return [value]
  if (typeof value !== "object" || value === null) return []
  return Object.entries(value).flatMap(([key, value]) => [key, ...textsIn(value)])
}

const Named = Schema.Struct({ name: Schema.String, template: Schema.String })

/** chat_template as tokenizer_config.json may have it: one template, or several by name. */
export const ChatTemplateField = Schema.Struct({
  chat_template: Schema.optionalKey(Schema.NullOr(Schema.Union([Schema.String, Schema.Array(Named)]))),
})

/** The one for plain conversations. */
export const defaultTemplate = (field: typeof ChatTemplateField.Type): string | null => {
  const { chat_template } = field
  if (chat_template === undefined || chat_template === null) return null
  if (typeof chat_template === "string") return chat_template
  return chat_template.find(({ name }) => name === "default")?.template ?? null
}

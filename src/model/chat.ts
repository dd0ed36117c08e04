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

export interface RenderOptions {
  /** Whether the text ends with the start of the assistant's turn. True. */
  readonly addGenerationPrompt?: boolean
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
    { addGenerationPrompt = true }: RenderOptions = {},
  ): Effect.Effect<ReadonlyArray<Part>, TemplateFailed> {
    return Effect.try({
      try: () => {
        const { bos, eos } = this.#tokens
        const marks = marksBeside([this.source, bos, eos, ...messages.flatMap(({ role, content }) => [role, content])])
        const now = new Date()
        const render: Render = (messages, literal) => this.#once(messages, { addGenerationPrompt, now }, literal)
        const parts = partsOf(render, messages, this.#names, marks)
        if (parts !== null) return parts
        throw new Error("it looks for names of control tokens in messages, and these have some. Leave them out")
      },
      catch: (error) =>
        new TemplateFailed({ file: this.#file, reason: error instanceof Error ? error.message : String(error) }),
    })
  }

  /** With its own text as `literal` changes it. */
  #once(
    messages: ReadonlyArray<ChatMessage>,
    { addGenerationPrompt, now }: { readonly addGenerationPrompt: boolean; readonly now: Date },
    literal?: (text: string) => string,
  ): string {
    const [bos_token, eos_token] = [this.#tokens.bos, this.#tokens.eos].map((text) => literal?.(text) ?? text)
    const given = {
      messages,
      add_generation_prompt: addGenerationPrompt,
      tools: null,
      documents: null,
      bos_token,
      eos_token,
    }
    const text = within(RENDER_MILLIS, () => {
      this.#program ??= parsed(this.source)
      return rendered(literal === undefined ? this.#program : parsed(this.source, literal), given, now)
    })
    if (text === null) throw new Error(`it took more than ${RENDER_MILLIS} ms`)
    const said = messages.reduce((length, message) => length + message.content.length, 0)
    if (text.length > 2 * said + MAX_TEMPLATE) throw new Error(`it made ${text.length} characters of ${said}`)
    return text
  }
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

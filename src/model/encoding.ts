// A request's text as the base's tokens: through the chat template for a conversation, then through the tokenizer. Both do
// what the model's files say, so both have limits.
import { Effect, Schema } from "effect"
import { EncodingFailed, ModelError, TemplateFailed } from "./errors.ts"
import { within } from "./limit.ts"
import type { Model } from "./model.ts"
import type { Part } from "./template/structure.ts"

/** A million characters of the worst kind take some ten seconds, an ordinary prompt of a whole context a few tenths. */
const ENCODE_MILLIS = 10_000

const Message = Schema.Struct({ role: Schema.String, content: Schema.String })
const Around = { addSpecialTokens: Schema.optionalKey(Schema.Boolean) }

/**
 * What is to be encoded: a text as it stands, in which names of control tokens are those tokens, or a conversation. Both may
 * get what the model's files put around every text, such as bos: a text does unless it is told not to, a conversation does not
 * unless it is told to, since a template that wants bos writes it.
 */
export const Encodable = Schema.Union([
  Schema.Struct({ text: Schema.String, ...Around }),
  Schema.Struct({
    messages: Schema.Array(Message),
    arguments: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json)),
    ...Around,
  }),
])
export type Encodable = typeof Encodable.Type

export const EncodeError = Schema.Union([TemplateFailed, EncodingFailed, ...ModelError.members])
export type EncodeError = typeof EncodeError.Type

export const encode = Effect.fnUntraced(function* (model: Model, given: Encodable) {
  if ("text" in given) {
    const { text, addSpecialTokens = true } = given
    return yield* cut(model, [{ text, structure: true }], addSpecialTokens)
  }
  const { messages, addSpecialTokens = false, arguments: told = {} } = given
  const { chatTemplate, path } = model
  if (chatTemplate === null) return yield* new TemplateFailed({ file: path, reason: "there is none: give a prompt" })
  return yield* cut(model, yield* chatTemplate.render(messages, { arguments: told }), addSpecialTokens)
})

const cut = ({ tokenizer, path }: Model, parts: ReadonlyArray<Part>, addSpecialTokens: boolean) =>
  Effect.try({
    try: () => {
      tokenizer.warm()
      const tokens = within(ENCODE_MILLIS, () => tokenizer.encodeParts(parts, { addSpecialTokens }))
      const characters = parts.reduce((length, { text }) => length + text.length, 0)
      if (tokens === null) throw new Error(`${characters} characters took more than ${ENCODE_MILLIS} ms. Ask for less`)
      return tokens
    },
    catch: (error) =>
      new EncodingFailed({ file: path, reason: error instanceof Error ? error.message : String(error) }),
  })

// Chat templates against Jinja on Python with transformers' settings; templates.py made what is expected.
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import { expect, test } from "vitest"
import { parsed, rendered } from "../../src/model/template/interpreter.ts"
import { opened, tinyTokenizer, writeFolder } from "../unit/model/fixtures.ts"

const Said = Schema.Array(Schema.Struct({ role: Schema.String, content: Schema.String }))
const Golden = Schema.Struct({
  given: Schema.Record(Schema.String, Schema.Unknown),
  cases: Schema.Array(Schema.Struct({ template: Schema.String, text: Schema.NullOr(Schema.String) })),
})
const golden: unknown = JSON.parse(readFileSync(join(import.meta.dirname, "templates.json"), "utf8"))
const { given, cases } = Schema.decodeUnknownSync(Golden)(golden)
const messages = Schema.decodeUnknownSync(Said)(given.messages)

/** What the library does not know, and so is not served. */
const REFUSED = [
  /center/,
  /dict\(/,
  /find/,
  /map\('trim'\)/,
  /3 > 2 > 1/,
  /'%s' %/,
  /1(\.5)?e3/,
  /\(1,\)/,
  /'a' \* 3/,
  /\{% raw %\}/,
  /\{%\+/,
]

test("it is compared with as many as there are", () => {
  expect(cases.length).toBeGreaterThan(240)
})

const refused = ({ template, text }: (typeof cases)[number]) =>
  text === null || REFUSED.some((one) => one.test(template))
const named = (some: typeof cases) => some.map((one) => [JSON.stringify(one.template), one] as const)

test.each(named(cases.filter((one) => !refused(one))))("%s is what it is in Python", (_, { template, text }) => {
  expect(rendered(parsed(template), given, new Date())).toBe(text)
})

test.each(named(cases.filter(refused)))("%s is refused", (_, { template }) => {
  expect(() => rendered(parsed(template), given, new Date())).toThrow()
})

const ofModels = cases.filter(({ template }) => template.includes("<|") && template.includes("messages"))

test.each(named(ofModels))("%s as a model's own", async (_, { template, text }) => {
  const names = ["<s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
  const added_tokens = names.map((content, i) => ({ id: 240 + i, content, special: true }))
  const files = { "chat_template.jinja": template, "tokenizer_config.json": JSON.stringify({ bos_token: "<s>" }) }
  const model = await opened(writeFolder({ tokenizer: { ...tinyTokenizer(), added_tokens }, files }))
  const parts = await Effect.runPromise(model.chatTemplate?.render(messages) ?? Effect.succeed([]))
  expect(parts).toEqual([{ text, structure: true }])
})

// Chat templates: from each of the files that may hold one, and what they may not do.
import { Effect } from "effect"
import { describe, expect, test } from "vitest"
import type { RenderOptions } from "../../../src/model/chat.ts"
import type { Model } from "../../../src/model/index.ts"
import { opened, refused, tinyTokenizer, writeFolder, writeGguf } from "./fixtures.ts"

const TEMPLATE =
  "{{ bos_token }}{% for message in messages %}<{{ message.role }}>{{ message.content }}{{ eos_token }}{% endfor %}" +
  "{% if add_generation_prompt %}<assistant>{% endif %}"
const conversation = [
  { role: "user", content: "Hi" },
  { role: "assistant", content: "Yes?" },
]
const NAMES = { bos_token: "<s>", eos_token: "</s>" }
const tokenizer = {
  ...tinyTokenizer(),
  added_tokens: [
    { id: 254, content: "<s>", special: true },
    { id: 255, content: "</s>", special: true },
  ],
}
const folder = (files: Record<string, string>) =>
  writeFolder({ tokenizer, files: { "tokenizer_config.json": JSON.stringify(NAMES), ...files } })

const rendered = async (model: Model, options?: RenderOptions) => {
  const parts = await Effect.runPromise(model.chatTemplate?.render(conversation, options) ?? Effect.succeed([]))
  return parts.map(({ text }) => text).join("")
}
const failure = async (template: string) => {
  const model = await opened(folder({ "chat_template.jinja": template }))
  return Effect.runPromise(Effect.flip(model.chatTemplate?.render(conversation) ?? Effect.succeed([])))
}

describe("a template is found", () => {
  const fieldOf = (chat_template: unknown) => JSON.stringify({ ...NAMES, chat_template })
  test.each([
    ["in chat_template.jinja", { "chat_template.jinja": TEMPLATE }],
    ["in chat_template.json", { "chat_template.json": JSON.stringify({ chat_template: TEMPLATE }) }],
    ["in tokenizer_config.json", { "tokenizer_config.json": fieldOf(TEMPLATE) }],
    [
      "among several by name",
      {
        "tokenizer_config.json": fieldOf([
          { name: "tool_use", template: "x" },
          { name: "default", template: TEMPLATE },
        ]),
      },
    ],
  ])("%s", async (_, files: Record<string, string>) => {
    const model = await opened(folder(files))
    expect(await rendered(model)).toBe("<s><user>Hi</s><assistant>Yes?</s><assistant>")
    expect(await rendered(model, { addGenerationPrompt: false })).toBe("<s><user>Hi</s><assistant>Yes?</s>")
  })

  test("in GGUF's metadata", async () => {
    const metadata = { "tokenizer.chat_template": TEMPLATE, "tokenizer.ggml.bos_token_id": 65 }
    expect(await rendered(await opened(writeGguf({ metadata })))).toBe("A<user>Hi<assistant>Yes?<assistant>")
  })

  test("or is not there", async () => {
    expect((await opened(folder({}))).chatTemplate).toBeNull()
  })
})

describe("a template is told", () => {
  const template = `{{ bos_token }}{{ mood | default('calm') }}{% if thinks is defined and not thinks %}!{% endif %}{{ more | tojson }}`
  const opening = () => opened(folder({ "chat_template.jinja": template }))

  test("what stands in its arguments, of any kind", async () => {
    const told = { mood: "wild", thinks: false, more: { a: [1, null, "x"] } }
    expect(await rendered(await opening(), { arguments: told })).toBe('<s>wild!{"a": [1, null, "x"]}')
  })

  test.each([{ mood: "</s>" }, { more: [{ "<s>": 1 }] }, { bos_token: "x" }, { messages: [] }])(
    "nothing of the request's own, and no control token: %j",
    async (told) => {
      const render = (await opening()).chatTemplate?.render(conversation, { arguments: told }) ?? Effect.succeed([])
      expect(String(await Effect.runPromise(Effect.flip(render)))).toMatch(/argument/)
    },
  )
})

describe("a template fails", () => {
  test("that does not parse", async () => {
    const error = await failure("{% for %}")
    expect(error).toMatchObject({ _tag: "TemplateFailed" })
    expect(String(error)).toMatch(/the chat template of .*chorus-model-.* failed: ./)
  })

  test("that refuses the conversation", async () => {
    const error = await failure("{{ raise_exception('Roles must alternate') }}")
    expect(String(error)).toContain("failed: Roles must alternate")
  })

  test("that makes far more than it was given", async () => {
    const error = await failure(
      "{% set ns = namespace(x='x') %}{% for i in range(19) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    )
    expect(String(error)).toContain("it made 524288 characters of 6")
  })

  test("that does not end", async () => {
    const error = await failure("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    expect(String(error)).toContain("it took more than 2000 ms")
  })

  test("that is too long", async () => {
    const error = await refused(folder({ "chat_template.jinja": "x".repeat(200_001) }))
    expect(error.message).toContain("it has 200001 characters, at most 200000 are taken")
  })
})

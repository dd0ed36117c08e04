// What becomes of each field of a request: the documentation says it as the tables have it, and the tables have all of
// OpenAI's fields.
import { readFileSync } from "node:fs"
import { join } from "node:path"
import type OpenAI from "openai"
import { expect, test } from "vitest"
import type { Fields } from "../../../src/gateway/field.ts"
import { type ChatRequest, type CompletionRequest, TABLES } from "../../../src/gateway/fields.ts"

const DOCUMENT = readFileSync(join(import.meta.dirname, "../../../docs/HTTP.md"), "utf8")

const tableOf = (fields: Fields): string =>
  [
    "| field | whose | here | |",
    "|---|---|---|---|",
    ...Object.entries(fields).map(
      ([name, { from, standing, meaning }]) => `| \`${name}\` | ${from} | ${standing} | ${meaning} |`,
    ),
  ].join("\n")

test.each(Object.entries(TABLES))("docs/HTTP.md says what becomes of the fields: %s", (title, fields) => {
  expect(DOCUMENT).toContain(`### ${title}\n\n${tableOf(fields)}\n`)
})

test("every field that OpenAI's own client for Node knows is in the tables", () => {
  type Missing<Theirs, Ours> = Exclude<keyof Theirs, keyof Ours>
  // The types hold it: a field that is missing is no never.
  const ofChats: ReadonlyArray<Missing<OpenAI.ChatCompletionCreateParams, ChatRequest>> = []
  const ofCompletions: ReadonlyArray<Missing<OpenAI.CompletionCreateParams, CompletionRequest>> = []
  const none: ReadonlyArray<never> = [...ofChats, ...ofCompletions]
  expect(none).toEqual([])
})

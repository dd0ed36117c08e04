// docs/PROTOCOL.md names every field and every error that a client may meet.
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, test } from "vitest"
import { InferError } from "../../../src/wire/errors.ts"
import {
  Answer,
  FinishReason,
  GenerationStats,
  InferAnswer,
  InferRequest,
  LogEntry,
  LoggedToken,
  PassStats,
  TokenOrigin,
} from "../../../src/wire/infer.ts"

const page = readFileSync(join(import.meta.dirname, "../../../docs/PROTOCOL.md"), "utf8")

const structs = [
  InferRequest,
  Answer,
  LoggedToken,
  GenerationStats,
  PassStats,
  ...InferAnswer.members,
  ...LogEntry.members,
]
const fields = structs.flatMap((struct) => Object.keys(struct.fields))
const errors = InferError.members.flatMap((error) => [error.fields._tag.schema.literal, ...Object.keys(error.fields)])
const words = [...FinishReason.literals, ...TokenOrigin.literals].map((word) => `"${word}"`)

test("every field, error and word has its place", () => {
  const names = [...new Set([...fields, ...errors, ...words])]
  expect(names.filter((name) => !page.includes(`\`${name}\``))).toEqual([])
})

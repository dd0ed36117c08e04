// What tells weights from others: the same wherever the files lie, and another one for the smallest training.
import { copyFileSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, writeSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { afterAll, expect, test } from "vitest"
import { digestOf, open } from "../../../src/model/index.ts"

const DEMO = join(import.meta.dirname, "../../../models/demo")
const copy = mkdtempSync(join(tmpdir(), "chorus-test-digest-"))
afterAll(() => rmSync(copy, { recursive: true }))

test("a copy has the same digest, another model another one, and so has a copy with one weight changed", async () => {
  for (const file of readdirSync(join(DEMO, "base"))) copyFileSync(join(DEMO, "base", file), join(copy, file))
  const model = await Effect.runPromise(open(copy))
  const [original, draft] = await Promise.all(
    ["base", "draft"].map((name) => Effect.runPromise(open(join(DEMO, name)))),
  )
  if (original === undefined || draft === undefined) throw new Error("no demo pair")
  const digest = digestOf(original)
  expect(digest).toMatch(/^[0-9a-f]{32}$/)
  expect(digestOf(model)).toBe(digest)
  expect(digestOf(draft)).not.toBe(digest)
  const tensor = model.tensors.find(({ name }) => name.endsWith("attn_q.weight"))
  if (tensor === undefined) throw new Error("no attention")
  const handle = openSync(tensor.file, "r+")
  const byte = Buffer.alloc(1)
  readSync(handle, byte, 0, 1, tensor.offset + tensor.bytes - 1)
  writeSync(handle, Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, tensor.offset + tensor.bytes - 1)
  expect(digestOf(model)).not.toBe(digest)
})

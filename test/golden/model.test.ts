// Against programs that are not ours: llama.cpp's tokens for the GGUF files, PyTorch's and tokenizers' for the demo pair,
// ggml's own table of types, and another reader of GGUF.
import { existsSync, readFileSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import { gguf as readIndependently } from "@huggingface/gguf"
import { Effect } from "effect"
import { describe, expect, test } from "vitest"
import { readGguf } from "../../src/model/formats/gguf.ts"
import { tensorTypes } from "../../src/model/formats/weights.ts"
import { detokenize, open, sameVocabulary } from "../../src/model/index.ts"

interface Row {
  readonly prompt: string
  readonly tokens: ReadonlyArray<number>
  readonly greedy: ReadonlyArray<number>
  readonly text: string
}
const golden = <A>(name: string): A => JSON.parse(readFileSync(new URL(name, import.meta.url), "utf8"))
const rows = golden<Record<string, ReadonlyArray<Row>>>("model-tokens.json")

const folder =
  process.env.CHORUS_MODELS_DIR ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "chorus", "models")
const isDemo = (name: string) => name.startsWith("demo/")
const pathOf = (name: string) => (isDemo(name) ? join("models", name) : join(folder, `${name}.gguf`))
const opened = (name: string) => Effect.runPromise(open(pathOf(name)))

/** For the name of a test that is skipped. */
const howToGet = (missing: ReadonlyArray<string>): string => {
  const files = missing.map((name) => `${name}.gguf`).join(" and ")
  if (missing.length > 0) console.warn(`tests on ${files} are skipped: put it into ${folder}, or set CHORUS_MODELS_DIR`)
  return missing.length === 0 ? "" : ` (put ${files} into ${folder}, or name its folder in CHORUS_MODELS_DIR)`
}

for (const name of Object.keys(rows)) {
  const missing = existsSync(pathOf(name)) ? [] : [name]
  describe.skipIf(missing.length > 0)(`${name}${howToGet(missing)}`, () => {
    test("prompts become the reference's tokens", async () => {
      const { tokenizer } = await opened(name)
      for (const { prompt, tokens } of rows[name] ?? []) {
        expect(Array.from(tokenizer.encode(prompt))).toEqual(tokens)
      }
    })

    test("its greedy tokens become the reference's text", async () => {
      const { tokenizer } = await opened(name)
      for (const { greedy, text } of rows[name] ?? []) {
        expect(detokenize(tokenizer, greedy, { control: true })).toBe(text)
      }
    })

    if (isDemo(name)) return

    test("tensors lie where @huggingface/gguf finds them", async () => {
      const ours = readGguf(pathOf(name)).tensors
      const theirs = await readIndependently(pathOf(name), { allowLocalFile: true })
      expect(ours.map(({ name, shape, offset, type }) => ({ name, shape, offset, type }))).toEqual(
        theirs.tensorInfos.map(({ name, shape, offset, dtype }) => ({
          name,
          shape: shape.map(Number),
          offset: Number(theirs.tensorDataOffset) + Number(offset),
          type: tensorTypes.get(dtype)?.name,
        })),
      )
    })

    test("its own chat template begins an answer", async () => {
      const { chatTemplate } = await opened(name)
      const messages = [
        { role: "system", content: "You are a helpful assistant." },
        { role: "user", content: "Write a haiku about message queues." },
      ]
      const parts = await Effect.runPromise(chatTemplate?.render(messages) ?? Effect.succeed([]))
      expect(parts.map(({ text }) => text).join("")).toBe(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n" +
          "Write a haiku about message queues.<|im_end|>\n<|im_start|>assistant\n",
      )
    })
  })
}

const coders = ["qwen2.5-coder-1.5b-instruct-q4_k_m", "qwen2.5-coder-0.5b-instruct-q4_k_m"] as const
const absent = coders.filter((name) => !existsSync(pathOf(name)))
test.skipIf(absent.length > 0)(`the coder pair shares its vocabulary${howToGet(absent)}`, async () => {
  const [base, draft] = [await opened(coders[0]), await opened(coders[1])]
  await Effect.runPromise(sameVocabulary(base, draft))
  expect(base.tokenizer.size).toBe(151_665)
})

test("types have ggml's names, blocks and sizes", () => {
  const ggml = golden<ReadonlyArray<{ id: number; name: string; block: number; bytes: number }>>("model-types.json")
  expect(Array.from(tensorTypes, ([id, type]) => ({ id, ...type }))).toEqual(ggml)
})

// Text prompts become the tokens that llama.cpp makes of them; prompts-llama.json says how it was made.
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import { describe, expect, test } from "vitest"
import { encode } from "../../src/model/encoding.ts"
import { open } from "../../src/model/index.ts"
import { howToGet, isMissing, type Weights, weights } from "../weights.ts"

const Prompts = Schema.Array(Schema.Struct({ prompt: Schema.String, tokens: Schema.Array(Schema.Int) }))
const golden: unknown = JSON.parse(readFileSync(join(import.meta.dirname, "prompts-llama.json"), "utf8"))
const { about: _, ...models } = Schema.decodeUnknownSync(Schema.Record(Schema.String, Schema.Unknown))(golden)

const NAMES: ReadonlyArray<Weights> = ["smollm2", "coder-0.5b", "coder-1.5b"]

describe.each(NAMES)("%s", (name) => {
  const prompts = Schema.decodeUnknownSync(Prompts)(models[name])
  test.skipIf(isMissing(name))(`encodes as llama.cpp${howToGet(name)}`, async () => {
    const model = await Effect.runPromise(open(weights(name)))
    for (const { prompt, tokens } of prompts) {
      expect(Array.from(await Effect.runPromise(encode(model, { text: prompt }))), prompt).toEqual(tokens)
    }
  })

  // With a bos that the files do not want, and names as characters, these were 6, 5 and 36.
  const infill = "<|fim_prefix|>def add(a, b):\n    <|fim_suffix|>\n\nprint(add(1, 2))<|fim_middle|>"
  const lengths = name === "smollm2" ? { "The capital of France is": 5 } : { "def fibonacci(n):": 4, [infill]: 19 }
  test.skipIf(isMissing(name)).each(Object.entries(lengths))(
    "%j has its tokens and no others",
    async (text, length) => {
      const model = await Effect.runPromise(open(weights(name)))
      expect(await Effect.runPromise(encode(model, { text }))).toHaveLength(length)
    },
  )
})

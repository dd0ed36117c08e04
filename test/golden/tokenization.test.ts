// Tokenizers against the Rust library "tokenizers" (tokenization.py): 3,000 generated strings for each component that is
// implemented and for definitions as real models have them, over the demo's vocabulary.
import { readFileSync } from "node:fs"
import { Effect } from "effect"
import { expect, test } from "vitest"
import { open } from "../../src/model/index.ts"
import { tinyConfig, tinyTensors, writeFolder } from "../unit/model/fixtures.ts"
import { golden } from "./engines.ts"

interface Change extends Record<string, unknown> {
  readonly model?: Readonly<Record<string, unknown>> & { readonly without?: ReadonlyArray<string> }
}
interface Golden {
  readonly pieces: ReadonlyArray<string>
  readonly strings: number
  readonly block: number
  readonly cases: ReadonlyArray<{ readonly name: string; readonly change: Change; readonly digests: string }>
}
const { pieces, strings, block, cases } = golden<Golden>("tokenization.json")
const demo = JSON.parse(readFileSync("models/demo/base/tokenizer.json", "utf8"))
const ROWS = 4_200 // the demo's tokens, and room for added ones

/** As tokenization.py makes them: a linear congruential generator picks a number of pieces, then the pieces. */
const generated: ReadonlyArray<string> = (() => {
  let state = 1
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state >>> 8
  }
  return Array.from({ length: strings }, () => {
    const length = 1 + (next() % 14)
    return Array.from({ length }, () => pieces[next() % pieces.length]).join("")
  })
})()

const digest = (ids: Iterable<number>, before: number): number => {
  let value = before
  for (const id of [...ids, -1]) value = (Math.imul(value, 31) + id + 2) >>> 0
  return value
}

const definition = ({ model = {}, ...change }: Change) => {
  const { without = [], ...settings } = model
  const keeps = (token: string) => token.startsWith("<|") || !without.some((part) => token.includes(part))
  const vocab = Object.fromEntries(Object.entries(demo.model.vocab).filter(([token]) => keeps(token)))
  const merges = demo.model.merges.filter((pair: string | Array<string>) => keeps([pair].flat().join("")))
  return { ...demo, ...change, post_processor: null, model: { ...demo.model, ...settings, vocab, merges } }
}

const opened = (tokenizer: Record<string, unknown>) => {
  const config = { ...tinyConfig("llama"), vocab_size: ROWS }
  return Effect.runPromise(open(writeFolder({ config, tokenizer, tensors: tinyTensors("llama", ROWS) })))
}

test.each(cases)("$name", async ({ change, digests }) => {
  const { tokenizer } = await opened(definition(change))
  const ours: Array<string> = []
  for (let from = 0; from < generated.length; from += block) {
    const all = generated.slice(from, from + block)
    ours.push(all.reduce((value, text) => digest(tokenizer.encode(text), value), 0).toString(16))
  }
  expect(ours.join(" ")).toBe(digests)
})

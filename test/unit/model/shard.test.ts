// What a rank needs of a model, what fits, and which models go together.

import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { Effect } from "effect"
import { describe, expect, test } from "vitest"
import {
  type Model,
  memoryNeeded,
  requireMemory,
  sameVocabulary,
  shardTensors,
  wholeShard,
} from "../../../src/model/index.ts"
import {
  byteAlphabet,
  demo,
  opened,
  tinyConfig,
  tinyGgufTensors,
  tinyTensors,
  writeFolder,
  writeGguf,
} from "./fixtures.ts"

const none = { attention: [], mlp: [], embed: false, head: false }
const names = (model: Model, shard: Parameters<typeof shardTensors>[1]) =>
  shardTensors(model, shard).map(({ name }) => name)

describe("a shard's tensors", () => {
  test("the whole model is all of them", async () => {
    const model = await opened(demo.draft)
    expect(shardTensors(model, wholeShard(model.shape))).toEqual(model.tensors)
  })

  test("the stages of a pipeline are all of them together, and share only a tied embedding", async () => {
    const model = await opened(demo.draft)
    const layers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
    const first = names(model, { attention: layers(0, 5), mlp: layers(0, 5), embed: true, head: false })
    const second = names(model, { attention: layers(5, 10), mlp: layers(5, 10), embed: false, head: true })
    expect(new Set([...first, ...second])).toEqual(new Set(model.tensors.map(({ name }) => name)))
    expect(first.filter((name) => second.includes(name))).toEqual(["token_embd.weight"])
  })

  test("attention and MLP of a layer can be apart", async () => {
    const model = await opened(writeGguf({ metadata: { "general.architecture": "qwen2" } }))
    expect(names(model, { ...none, mlp: [1] }).toSorted()).toEqual([
      "blk.1.ffn_down.weight",
      "blk.1.ffn_gate.weight",
      "blk.1.ffn_norm.weight",
      "blk.1.ffn_up.weight",
    ])
    expect(names(model, { ...none, attention: [0] }).toSorted()).toEqual([
      "blk.0.attn_k.bias",
      "blk.0.attn_k.weight",
      "blk.0.attn_norm.weight",
      "blk.0.attn_output.weight",
      "blk.0.attn_q.bias",
      "blk.0.attn_q.weight",
      "blk.0.attn_v.bias",
      "blk.0.attn_v.weight",
    ])
  })

  test("a head of its own makes the embedding superfluous", async () => {
    const head = { name: "output.weight", shape: [8, 256], type: "f16" }
    const model = await opened(writeGguf({ tensors: [...tinyGgufTensors("llama"), head] }))
    expect(names(model, { ...none, head: true })).toEqual(["output_norm.weight", "output.weight"])
  })
})

describe("memory", () => {
  test("is the shard's tensors, and keys and values of its attention layers", async () => {
    const model = await opened(demo.base)
    const all = memoryNeeded(model, wholeShard(model.shape), 1000)
    const header = 8 + Number(readFileSync(`${demo.base}/model.safetensors`).readBigUInt64LE(0))
    expect(all.weights).toBe(model.bytes - header)
    expect(all.kv).toBe(1000 * 12 * 2 * (2 * 32) * 4) // f32: heads of 32
    expect(all.total).toBe(all.weights + all.kv)
    const half = memoryNeeded(model, { ...none, attention: [0, 1, 2] }, 1000, "f16")
    expect(half.kv).toBe(1000 * 3 * 2 * (2 * 32) * 2)
    expect(half.weights).toBe(3 * (192 + 192 * 192 * 2 + 192 * 64 * 2) * 2)
  })

  test("that is not there is refused with the figures", async () => {
    const model = await opened(demo.base)
    const shard = wholeShard(model.shape)
    const { total } = memoryNeeded(model, shard, 1024)
    expect(await Effect.runPromise(requireMemory(model, shard, 1024, total))).toMatchObject({ total })
    const error = await Effect.runPromise(Effect.flip(requireMemory(model, shard, 1024, 8 * 2 ** 20)))
    expect(error.message).toBe(
      `${resolve(demo.base)} does not fit: it needs 11 MiB of weights and 6 MiB of KV for 1024 tokens, 8 MiB are free. ` +
        "Use more ranks, a shorter context, or a smaller model.",
    )
  })
})

describe("a base and a draft", () => {
  const together = (base: Model, draft: Model) => Effect.runPromise(sameVocabulary(base, draft))

  test("of one vocabulary go together, however they are padded", async () => {
    const base = await opened(demo.base)
    await together(base, await opened(demo.draft))
    const padded = {
      metadata: {
        "tokenizer.ggml.tokens": [...byteAlphabet(), "[PAD256]"],
        "tokenizer.ggml.token_type": [...new Array<number>(256).fill(1), 5],
      },
      tensors: tinyGgufTensors("llama", 300),
    }
    const config = { ...tinyConfig("llama"), vocab_size: 272 }
    const folder = writeFolder({ config, tensors: tinyTensors("llama", 272) })
    await together(await opened(writeGguf(padded)), await opened(folder))
  })

  test("of two vocabularies do not, and the first token that differs is named", async () => {
    const base = await opened(demo.base)
    const draft = await opened(writeGguf())
    const error = await Effect.runPromise(Effect.flip(sameVocabulary(base, draft)))
    expect(error.message).toBe(
      `the draft ${draft.path} and the base ${base.path} have different vocabularies: token 0 is "Ā" in the draft, ` +
        `"<|endoftext|>" in the base. Choose a draft of the base's own family.`,
    )
  })

  test("a token that only one has is a difference", async () => {
    const tokens = (names: ReadonlyArray<string>) =>
      opened(writeGguf({ metadata: { "tokenizer.ggml.tokens": names }, tensors: tinyGgufTensors("llama", 257) }))
    const base = await tokens([...byteAlphabet(), "more"])
    const error = await Effect.runPromise(Effect.flip(sameVocabulary(base, await tokens(byteAlphabet()))))
    expect(error.message).toContain('token 256 is none in the draft, "more" in the base')
  })
})

// Weights that are not what they should be: files that are not there or end too early, tensors that are misshapen or
// elsewhere, bytes that mean nothing. They are refused by name, or they compute nonsense; the process goes on.
import { spawnSync } from "node:child_process"
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import fc from "fast-check"
import { afterAll, expect, test } from "vitest"
import { type Engine, type EngineOptions, native, type Shape, type TensorSource } from "../../../native/index.ts"
import { bytesOf, isWeightType, type TensorType, tensorTypes } from "../../../src/model/formats/weights.ts"
import { shardTensors } from "../../../src/model/index.ts"
import { all, argmax, chain, load, model, optionsOf, partialShard } from "./shards.ts"

const folder = mkdtempSync(join(tmpdir(), "chorus-weights-"))
afterAll(() => rmSync(folder, { recursive: true }))
const at = (name: string) => join(folder, name)

/** A few rows through everything that the engine has; what comes out is of no interest. */
const exercise = async (engine: Engine, layers: number, rows: number) => {
  engine.open("s", { ...argmax, temperature: 0.7, topP: 0.9 })
  for (const count of [1, rows]) {
    const pass = engine.begin([{ session: "s", tokens: chain(1, count), parents: chain(engine.used("s"), count) }])
    const { tokens } = await pass.run([
      { op: "embed" },
      { op: "layers", from: 0, to: layers },
      { op: "head", rows: Int32Array.of(count - 1), want: "candidates", k: 8 },
    ])
    expect(tokens?.length).toBe(8)
    pass.end()
  }
  engine.close("s")
}

test("a file that cannot be what it should", async () => {
  const file = model.tensors[0]?.file ?? ""
  copyFileSync(file, at("short"))
  truncateSync(at("short"), 100_000)
  mkdirSync(at("folder"))
  writeFileSync(at("empty"), "")
  expect(spawnSync("mkfifo", [at("pipe")]).status).toBe(0)
  const failures = {
    absent: expect.objectContaining({ code: "FAILED", message: `${at("absent")}: No such file or directory` }),
    folder: expect.objectContaining({ code: "FAILED", message: `${at("folder")}: is no file, or is empty` }),
    empty: expect.objectContaining({ code: "FAILED", message: `${at("empty")}: is no file, or is empty` }),
    pipe: expect.objectContaining({ code: "FAILED", message: `${at("pipe")}: is no file, or is empty` }),
    short: expect.objectContaining({
      name: "TypeError",
      message: expect.stringMatching(/^tensors: blk\.\d+\..* ends after the end of .*short$/),
    }),
  }
  for (const [name, failure] of Object.entries(failures)) {
    const tensors = model.tensors.map((tensor) => ({ ...tensor, file: at(name) }))
    await expect(load({ tensors })).rejects.toThrow(failure)
  }
})

test("a tensor that cannot be what it should", async () => {
  const name = "blk.3.attn_q.weight"
  const changed = (change: Partial<TensorSource>): Partial<EngineOptions> => ({
    shard: partialShard,
    tensors: model.tensors.map((tensor) => (tensor.name === name ? { ...tensor, ...change } : tensor)),
  })
  const refused = async (change: Partial<TensorSource>, message: string) =>
    expect(load(changed(change))).rejects.toThrow(
      expect.objectContaining({ name: "TypeError", code: "INVALID", message }),
    )
  const { file = "", bytes = 0 } = model.tensors.find((tensor) => tensor.name === name) ?? {}
  for (const offset of [model.bytes - bytes + 1, model.bytes + 1, 2 ** 53])
    await refused({ offset }, `tensors: ${name} ends after the end of ${file}`)
  await refused({ name: "blk.3.attn_p.weight" }, `tensors has no ${name}`)
  await refused({ shape: [96, 97] }, `tensors: ${name} has another shape than \`shape\` asks for`)
  await refused({ shape: [96 * 96] }, `tensors: ${name} has another shape than \`shape\` asks for`)
  await refused({ type: "f32" }, `tensors: ${name} has bytes ${bytes}; its type and shape need ${2 * bytes}`)
  await refused({ bytes: bytes - 1 }, `tensors: ${name} has bytes ${bytes - 1}; its type and shape need ${bytes}`)
  await refused({ type: "q4_K" }, `tensors: ${name} has rows that are no multiple of its type's block`)
})

test("tensors that lie anywhere else in the file, at any alignment", async () => {
  const tensors = shardTensors(model, optionsOf().shard)
  const offsets = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), {
    minLength: tensors.length,
    maxLength: tensors.length,
  })
  const property = fc.asyncProperty(offsets, fc.constantFrom("bf16", "f16"), async (places, type) => {
    const moved = tensors.map((tensor, i) => ({
      ...tensor,
      type,
      offset: Math.floor((places[i] ?? 0) * (model.bytes - tensor.bytes)),
    }))
    const engine = await load({ tensors: moved })
    await exercise(engine, model.shape.layers, 3)
    engine.dispose()
  })
  await fc.assert(property, { numRuns: 50 })
})

/** Bytes of a linear congruential generator. */
const pattern = new Uint8Array(65_521)
for (let i = 0, state = 1; i < pattern.length; i++) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  pattern[i] = state >>> 24
}

/** One layer of noise. */
const noise = (type: TensorType, shape: Shape): ReadonlyArray<TensorSource> => {
  const { width, heads, kvHeads, headDim, ffn, vocab } = shape
  const shapes: Readonly<Record<string, ReadonlyArray<number>>> = {
    "token_embd.weight": [width, vocab],
    "output.weight": [width, vocab],
    "output_norm.weight": [width],
    "blk.0.attn_norm.weight": [width, 1],
    "blk.0.attn_q.weight": [width, heads * headDim],
    "blk.0.attn_k.weight": [width, kvHeads * headDim],
    "blk.0.attn_v.weight": [width, kvHeads * headDim],
    "blk.0.attn_output.weight": [heads * headDim, width],
    "blk.0.ffn_norm.weight": [width],
    "blk.0.ffn_gate.weight": [width, ffn],
    "blk.0.ffn_up.weight": [width, ffn],
    "blk.0.ffn_down.weight": [ffn, width],
  }
  let offset = 0
  const tensors = Object.entries(shapes).map(([name, shape]) => {
    const bytes = bytesOf(type, shape) ?? 0
    offset += bytes
    return { name, file: at(type.name), offset: offset - bytes, bytes, type: type.name, shape }
  })
  writeFileSync(at(type.name), Buffer.alloc(offset, pattern))
  return tensors
}

const shape: Shape = {
  architecture: "llama",
  ...{ layers: 1, width: 256, heads: 4, kvHeads: 2, headDim: 64, ffn: 256, vocab: 500, context: 64 },
  ...{ normEps: 1e-5, ropeTheta: 10_000, ropeDim: 64, ropePairs: "halves", ropeFactors: null },
}
const loadNoise = (type: TensorType, shape: Shape, deterministic: boolean) =>
  native.load({ ...optionsOf({ shape, tensors: noise(type, shape), deterministic }), shard: wholeOf })
const wholeOf = { attention: [0], mlp: [0], embed: true, head: true }

const types = [...tensorTypes.values()]
test.each(types.filter(({ name }) => isWeightType(name)))("noise in $name", async (type) => {
  for (const deterministic of [true, false]) {
    const engine = await loadNoise(type, shape, deterministic)
    await exercise(engine, 1, 7)
    engine.dispose()
  }
})

test.each(types.filter(({ name }) => isWeightType(name)))("a tied head in $name at an odd offset", async (type) => {
  const tied = { ...shape, vocab: 512 } // whole groups, so that the head can be packed
  const tensors = noise(type, tied).filter(({ name }) => name !== "output.weight")
  writeFileSync(
    at(type.name),
    Buffer.alloc(1 + Math.max(...tensors.map(({ offset, bytes }) => offset + bytes)), pattern),
  )
  const moved = tensors.map((tensor) => ({ ...tensor, offset: tensor.offset + 1 }))
  const engine = await native.load({ ...optionsOf({ shape: tied, tensors: moved }), shard: wholeOf })
  await exercise(engine, 1, 7)
  engine.dispose()
})

test.each(types.filter(({ name }) => !isWeightType(name)))("no weights are held in $name", (type) => {
  expect(() => loadNoise(type, shape, true)).toThrow(`expected a weight type that ggml knows; got "${type.name}"`)
})

test("heads and widths of any size", async () => {
  for (const [width, headDim] of [
    [256, 2],
    [255, 5],
    [1, 2],
    [33, 33],
    [64, 100],
    [8, 577],
  ] as const) {
    for (const name of ["f32", "bf16"]) {
      const type = types.find((type) => type.name === name)
      if (type === undefined) return expect.unreachable(name)
      const odd = { ...shape, width, headDim, ropeDim: headDim - (headDim % 2), vocab: 300 }
      const engine = await loadNoise(type, odd, true)
      engine.open("s", argmax)
      const pass = engine.begin([{ session: "s", tokens: Int32Array.of(1, 2, 3), parents: Int32Array.of(-1, 0, 0) }])
      const { hiddens } = await pass.run([{ op: "embed" }, { ...all, to: 1 }, { op: "emit" }])
      expect(hiddens[0]?.length).toBe(3 * width * 4)
      engine.dispose()
    }
  }
})

test("progress is told up to the end", async () => {
  const last = await new Promise<number>((resolve, reject) => {
    native.load(optionsOf(), (fraction) => fraction === 1 && resolve(fraction)).catch(reject)
  })
  expect(last).toBe(1)
})

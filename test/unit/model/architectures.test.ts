// What every architecture has to hold: a folder and a GGUF file of it are one model, its logits are those of its definition
// (reference.ts), and a row's are the same bits in every batch, tree and shard. A new architecture is covered once it is
// registered, with its tensors in fixtures.ts and its layer in reference.ts.
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, test } from "vitest"
import { type Engine, native, type Op, type Segment, type Shard } from "../../../native/index.ts"
import { architectures } from "../../../src/model/architectures/index.ts"
import { kvTypeOf, type Model, wholeShard } from "../../../src/model/index.ts"
import {
  opened,
  refused,
  type Tensor,
  temporaryFolder,
  tinyConfig,
  tinyGgufTensors,
  tinyTensors,
  writeFolder,
  writeGguf,
} from "./fixtures.ts"
import { logitsOf, type Weights } from "./reference.ts"

native.loadBackends(".chorus/backends")

const PROMPT = [17, 250, 3, 3, 99, 128]
const THETA = 10_000
const GREEDY = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 1n }

/** The same numbers for a name in every run, around 1 for norms. */
const noise = ({ name, shape }: Tensor): Float32Array => {
  let state = [...name].reduce((hash, letter) => (Math.imul(hash, 31) + letter.charCodeAt(0)) >>> 0, 7)
  return Float32Array.from({ length: shape.reduce((product, n) => product * n, 1) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 32 - 0.5) * (name.includes("norm") ? 0.5 : 1) + (name.includes("norm") ? 1 : 0)
  })
}

const weightsOf = (architecture: string): Weights =>
  new Map(tinyTensors(architecture).map((tensor) => [tensor.name, noise(tensor)]))

const bytesOf = (values: Float32Array): Buffer => Buffer.from(values.buffer, values.byteOffset, values.byteLength)

/** A folder whose weights are noise, in f32. */
const folderOf = (architecture: string): string => {
  const tensors = tinyTensors(architecture).map((tensor) => ({ ...tensor, type: "F32" }))
  const folder = writeFolder({ config: { ...tinyConfig(architecture), rope_theta: THETA }, tensors })
  const file = join(folder, "model.safetensors")
  const content = readFileSync(file)
  const start = 8 + Number(content.readBigUInt64LE(0))
  Buffer.concat(tensors.map((tensor) => bytesOf(noise(tensor)))).copy(content, start)
  writeFileSync(file, content)
  return folder
}

/** As llama.cpp's converter does it where pairs are neighbours: row 2i of a head was row i, and row 2i + 1 row i + half. */
const interleaved = (
  rows: Float32Array,
  [count = 0, width = 1]: ReadonlyArray<number>,
  headDim: number,
): Float32Array =>
  Float32Array.from(rows, (_, at) => {
    const [row, column] = [Math.floor(at / width), at % width]
    const [head, inHead] = [Math.floor(row / headDim), row % headDim]
    const from = head * headDim + Math.floor(inHead / 2) + (inHead % 2) * (headDim / 2)
    return rows[(from % count) * width + column] ?? Number.NaN
  })

/** The same weights as a GGUF file. */
const ggufOf = (architecture: string, pairs: string): string => {
  const sources = tinyTensors(architecture)
  const tensors = tinyGgufTensors(architecture).map((tensor, index) => {
    const source = sources[index] ?? tensor
    const rotated = pairs === "neighbours" && /attn_[qk]\.(weight|bias)$/.test(tensor.name)
    const values = rotated ? interleaved(noise(source), source.shape, 4) : noise(source)
    return { ...tensor, content: bytesOf(values) }
  })
  const metadata = { "general.architecture": architecture, [`${architecture}.rope.freq_base`]: THETA }
  return writeGguf({ metadata, tensors })
}

const load = ({ shape, tensors }: Model, shard: Shard = wholeShard(shape)): Promise<Engine> =>
  native.load({ shape, tensors, shard, device: "CPU", threads: 1, deterministic: true, kvType: kvTypeOf(shape) })

const run = async (engine: Engine, segments: ReadonlyArray<Segment>, ops: ReadonlyArray<Op>) => {
  const pass = engine.begin(segments)
  try {
    return await pass.run(ops)
  } finally {
    pass.end()
  }
}

const line = (session: string, tokens: ReadonlyArray<number>, from = 0): Segment => ({
  session,
  tokens: Int32Array.from(tokens),
  parents: Int32Array.from(tokens, (_, i) => from + i - 1),
})

const exact: ReadonlyArray<Op> = [{ op: "embed" }, { op: "layers", from: 0, to: 2 }]
const head = (...rows: ReadonlyArray<number>): Op => ({ op: "head", rows: Int32Array.from(rows), want: "logits" })

/** Logits after each token of the prompt, all in one pass. */
const logits = async (engine: Engine): Promise<Float32Array> => {
  engine.open("whole", GREEDY)
  const result = await run(engine, [line("whole", PROMPT)], [...exact, head(...PROMPT.keys())])
  engine.close("whole")
  return result.logits ?? new Float32Array(0)
}

test("README names every architecture", () => {
  const readme = readFileSync(join(import.meta.dirname, "../../../README.md"), "utf8")
  for (const { name } of architectures) expect(readme).toContain(`\`${name}\``)
})

describe.each(architectures.map(({ name, ggufRopePairs }) => [name, ggufRopePairs] as const))("%s", (name, pairs) => {
  test("a folder and a GGUF file have the same shape and tensors", async () => {
    const folder = await opened(folderOf(name))
    const file = await opened(ggufOf(name, pairs))
    expect(folder.shape).toMatchObject({ architecture: name, ropePairs: "halves" })
    expect(file.shape).toEqual({ ...folder.shape, normEps: Math.fround(1e-6), ropePairs: pairs })
    const shapes = ({ tensors }: Model) => new Map(tensors.map((tensor) => [tensor.name, tensor.shape]))
    expect(shapes(file)).toEqual(shapes(folder))
  })

  test("logits are those of the definition, from either format", async () => {
    const wanted = logitsOf(name, weightsOf(name), PROMPT, THETA)
    for (const path of [folderOf(name), ggufOf(name, pairs)]) {
      const engine = await load(await opened(path))
      const found = await logits(engine)
      engine.dispose()
      expect(found).toHaveLength(wanted.length)
      const furthest = found.reduce((most, logit, i) => Math.max(most, Math.abs(logit - (wanted[i] ?? Number.NaN))), 0)
      expect(furthest).toBeLessThan(1e-4)
    }
  })

  test("a row's logits are the same bits alone, beside another session, in a tree and in shards", async () => {
    const model = await opened(folderOf(name))
    const whole = await load(model)
    const all = await logits(whole)
    const after = (row: number) => all.subarray(row * 256, (row + 1) * 256)

    whole.open("alone", GREEDY)
    for (const [i, token] of PROMPT.entries()) {
      expect((await run(whole, [line("alone", [token], i)], [...exact, head(0)])).logits).toEqual(after(i))
      await whole.commit("alone", Int32Array.of(i))
    }

    // A tree: the last two tokens in one branch, other tokens in another.
    whole.open("tree", GREEDY)
    whole.open("other", GREEDY)
    await run(whole, [line("tree", PROMPT.slice(0, 4))], exact)
    await whole.commit("tree", Int32Array.of(0, 1, 2, 3))
    const tree = {
      session: "tree",
      tokens: Int32Array.of(7, PROMPT[4] ?? 0, 8, PROMPT[5] ?? 0),
      parents: Int32Array.of(3, 3, 4, 5),
    }
    const beside = await run(whole, [line("other", [5, 6, 7]), tree], [...exact, head(4, 6)])
    expect(beside.logits?.subarray(0, 256)).toEqual(after(4))
    expect(beside.logits?.subarray(256)).toEqual(after(5))

    // One rank has the attention of layer 1, the other all else.
    const helper = await load(model, { attention: [1], mlp: [], embed: false, head: false })
    const leader = await load(model, { attention: [0], mlp: [0, 1], embed: true, head: true })
    for (const engine of [helper, leader]) engine.open("split", GREEDY)
    const led = leader.begin([line("split", PROMPT)])
    const first = await led.run([{ op: "embed" }, { op: "layers", from: 0, to: 1 }, { op: "emit" }])
    const hidden = first.hiddens[0] ?? new Uint8Array(0)
    const { attended } = await run(
      helper,
      [line("split", PROMPT)],
      [
        { op: "receive", hidden },
        { op: "attend", layers: [1] },
      ],
    )
    const rows = Int32Array.from(PROMPT.keys())
    const joined = await led.run([
      { op: "mlps", layers: [1], attended },
      { op: "head", rows, want: "logits" },
    ])
    led.end()
    expect(joined.logits).toEqual(all)
    for (const engine of [whole, helper, leader]) engine.dispose()
  })

  test("a tensor that is missing, of another shape or unknown is refused by its name", async () => {
    const required = tinyTensors(name)
    for (const { name: missing } of required) {
      const rest = required.filter((tensor) => tensor.name !== missing)
      const error = await refused(writeFolder({ config: tinyConfig(name), tensors: rest }))
      expect(error.message).toContain(`tensor ${missing} is missing`)
    }
    const metadata = { "general.architecture": name }
    for (const { name: wrong } of tinyGgufTensors(name).slice(1)) {
      const tensors = tinyGgufTensors(name).map((tensor) =>
        tensor.name === wrong ? { ...tensor, shape: [3] } : tensor,
      )
      expect((await refused(writeGguf({ metadata, tensors }))).message).toContain(`tensor ${wrong} has shape [3]`)
    }
    const stray = { name: "model.layers.0.self_attn.sinks.weight", shape: [4], type: "BF16" }
    const folder = writeFolder({ config: tinyConfig(name), tensors: [...required, stray] }, temporaryFolder())
    expect((await refused(folder)).message).toContain(`tensor ${stray.name} is not part of the ${name} architecture`)
  })
})

// What a caller reads when an argument is wrong: its path, what was expected, and what came instead.
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { type Engine, native, type Op, type Pass } from "../../../native/index.ts"
import { argmax, chain, load, model, optionsOf, partialShard, prompt } from "./shards.ts"

const { width, vocab } = model.shape
let whole: Engine
let partial: Engine
let pass: Pass
let pastPass: Pass
let spare: Engine // a part of the model, without sessions
beforeAll(async () => {
  whole = await load()
  partial = await load({ shard: partialShard })
  spare = await load({ shard: partialShard })
  for (const name of ["idle", "busy"]) whole.open(name, argmax)
  partial.open("s", argmax)
  whole.begin([{ session: "idle", tokens: prompt, parents: chain(0, 10) }]).end()
  await whole.commit("idle", Int32Array.of(0, 1, 2, 3))
  whole.begin([{ session: "idle", tokens: Int32Array.of(5, 6, 7), parents: Int32Array.of(3, 3, 4) }]).end()
  pastPass = partial.begin([{ session: "s", tokens: Int32Array.of(1, 2), parents: Int32Array.of(-1, 0) }])
  pass = whole.begin([{ session: "busy", tokens: Int32Array.of(1, 2), parents: Int32Array.of(-1, 0) }])
})
afterAll(() => {
  whole.dispose()
  partial.dispose()
  spare.dispose()
})

/** Calls a method with arguments that its type forbids. */
const call = (target: object, method: string, ...args: ReadonlyArray<unknown>): unknown => {
  const found: unknown = Reflect.get(target, method)
  return typeof found === "function" ? Reflect.apply(found, target, args) : expect.unreachable(method)
}
const refusals = (cases: ReadonlyArray<readonly [string, () => unknown]>) => {
  test.each(cases)("%s", (message, refused) => {
    expect(refused).toThrow(expect.objectContaining({ name: "TypeError", message }))
  })
}
const one = { session: "idle", tokens: Int32Array.of(1), parents: Int32Array.of(3) }
const begin = (...segments: ReadonlyArray<object>) => call(whole, "begin", segments)
const run = (...ops: ReadonlyArray<object>) => call(pass, "run", ops)
const head = { op: "head", rows: Int32Array.of(0), want: "tokens" }
const detached = () => {
  const array = new Int32Array(3)
  structuredClone(array.buffer, { transfer: [array.buffer] })
  return array
}

describe("sessions", () => {
  refusals([
    ["session: expected a string", () => call(whole, "open", 5, argmax)],
    ["session: expected a name", () => whole.open("", argmax)],
    ["session: expected a string without a NUL character", () => whole.open("a\0b", argmax)],
    ['session: "idle" is open already', () => whole.open("idle", argmax)],
    ['session: there is no session "nobody"', () => whole.used("nobody")],
    ["sampling: expected an object", () => call(whole, "open", "s")],
    [
      "sampling.temperature: expected a number from 0 to 1000000; got nan",
      () => whole.open("s", { ...argmax, temperature: Number.NaN }),
    ],
    ["sampling.topP: expected a number from 0 to 1; got 1.5", () => whole.open("s", { ...argmax, topP: 1.5 })],
    ["sampling.topK: expected an integer from 0 to 2147483647; got -1", () => whole.open("s", { ...argmax, topK: -1 })],
    [
      "sampling.penalties.from: expected an integer from 0 to 2147483647; got -1",
      () => whole.open("s", { ...argmax, penalties: { presence: 1, frequency: 1, from: -1 } }),
    ],
    [
      `sampling.bias[1][0]: expected an integer from 0 to ${vocab - 1}; got ${vocab}`,
      () =>
        whole.open("s", {
          ...argmax,
          bias: [
            [0, 1],
            [vocab, 1],
          ],
        }),
    ],
    [
      "sampling.barred.before: expected an integer from 0 to 2147483647; got 0.5",
      () => whole.open("s", { ...argmax, barred: { tokens: [1], before: 0.5 } }),
    ],
    ["sampling.seed: expected a bigint", () => call(whole, "open", "s", { ...argmax, seed: 5 })],
    ["sampling.seed: expected a bigint from 0 to 2^64 - 1", () => whole.open("s", { ...argmax, seed: 2n ** 64n })],
    ["sampling.seed: expected a bigint from 0 to 2^64 - 1", () => whole.open("s", { ...argmax, seed: -1n })],
  ])
})

describe("segments", () => {
  const parents = (...slots: ReadonlyArray<number>) => Int32Array.from(slots)
  refusals([
    ["segments: expected an array", () => call(whole, "begin", one)],
    ["segments: expected 1 to 512 rows in all; got 0", () => begin()],
    ["segments: expected at most 512 elements; got 513", () => begin(...Array(513).fill(one))],
    ["segments[0]: expected an object", () => call(whole, "begin", [null])],
    ['segments[0].session: expected an open session; got "x"', () => begin({ ...one, session: "x" })],
    ['segments[1].session: expected a session that no pass or promise uses; got "idle"', () => begin(one, one)],
    [
      'segments[0].session: expected a session that no pass or promise uses; got "busy"',
      () => begin({ ...one, session: "busy" }),
    ],
    ["segments[0].tokens: expected an Int32Array", () => begin({ ...one, tokens: [1] })],
    ["segments[0].tokens: expected an Int32Array", () => begin({ ...one, tokens: Uint32Array.of(1) })],
    ["segments[0].tokens: expected at least one token", () => begin({ ...one, tokens: detached() })],
    [
      `segments[0].tokens[0]: expected a token of 0 to ${vocab - 1}; got ${vocab}`,
      () => begin({ ...one, tokens: parents(vocab) }),
    ],
    [
      `segments[0].tokens[0]: expected a token of 0 to ${vocab - 1}; got -1`,
      () => begin({ ...one, tokens: parents(-1) }),
    ],
    ["segments[0].parents: expected 1 parents, one a token; got 2", () => begin({ ...one, parents: parents(3, 4) })],
    ["segments[0].parents[0]: expected a slot of 3 to 6; got 2", () => begin({ ...one, parents: parents(2) })],
    ["segments[0].parents[0]: expected a slot of 3 to 6; got 7", () => begin({ ...one, parents: parents(7) })],
    [
      "segments: expected 1 to 512 rows in all; got 600",
      () => begin({ ...one, tokens: new Int32Array(600), parents: chain(7, 600) }),
    ],
  ])
})

describe("slots and positions", () => {
  const commit = (...slots: ReadonlyArray<number>) => whole.commit("idle", Int32Array.from(slots))
  refusals([
    ["slots: expected an Int32Array", () => call(whole, "commit", "idle", [4])],
    ["slots[0]: expected a slot of 4 to 6; got 3", () => commit(3)],
    ["slots[1]: expected a slot of 4 to 6; got 7", () => commit(4, 7)],
    ["slots[1]: expected a child of slot 4; got 5", () => commit(4, 5)],
    ["slots[0]: expected a child of slot 3; got 6", () => commit(6)],
    ["slots[1]: expected a child of slot 4; got 4", () => commit(4, 4)],
    ["length: expected an integer from 0 to 7; got 8", () => whole.truncate("idle", 8)],
    ["length: expected an integer from 0 to 7; got 1.5", () => whole.truncate("idle", 1.5)],
    ["length: expected an integer from 0 to 7", () => call(whole, "truncate", "idle", 1n)],
    ["from: expected an integer from 0 to 4; got 5", () => whole.kvExport("idle", 5, 5)],
    ["to: expected an integer from 3 to 4; got 2", () => whole.kvExport("idle", 3, 2)],
    ["bytes: expected a Uint8Array", () => call(whole, "kvImport", "idle", new ArrayBuffer(8))],
    ["bytes: expected a Uint8Array", () => call(whole, "kvImport", "idle", new Int8Array(8))],
  ])
})

describe("a part of a shard", () => {
  const narrow = (change: object) => call(spare, "narrow", { ...partialShard, ...change })
  refusals([
    ["shard: expected an object", () => call(spare, "narrow")],
    ["shard.attention: expected layers of this engine's shard; got 2", () => narrow({ attention: [3, 2] })],
    ["shard.attention[0]: expected an integer from 0 to 9; got 10", () => narrow({ attention: [10] })],
    ["shard.mlp: expected layers of this engine's shard; got 0", () => narrow({ mlp: [0] })],
    ["shard.embed: expected false, as in this engine's shard", () => narrow({ embed: true })],
    ["shard.head: expected false, as in this engine's shard", () => narrow({ head: true })],
    ['sessions: expected none while the shard changes; "s" is open', () => partial.narrow(partialShard)],
  ])

  test("leaves the other layers behind", () => {
    const before = spare.bytesOfKvPerToken
    narrow({ attention: [4] })
    expect(spare.bytesOfKvPerToken).toBe(before / partialShard.attention.length)
    expect(() => narrow({ attention: [3] })).toThrow("shard.attention: expected layers of this engine's shard; got 3")
  })
})

describe("steps", () => {
  const elsewhere = (...ops: ReadonlyArray<object>) => call(pastPass, "run", ops)
  const bytes = new Uint8Array(2 * width * 4)
  refusals([
    ["ops: expected an array", () => call(pass, "run", { op: "embed" })],
    ["ops: expected at least one step", () => run()],
    [
      'ops[1].op: expected embed, receive, layers, attend, mlps, emit or head; got "sing"',
      () => run({ op: "embed" }, { op: "sing" }),
    ],
    ["ops[0].hidden: expected a Uint8Array", () => run({ op: "receive" })],
    ["ops[0].hidden: expected 768 bytes; got 767", () => run({ op: "receive", hidden: bytes.subarray(1) })],
    ["ops[0].from: expected an integer from 0 to 1024; got -1", () => run({ op: "layers", from: -1, to: 3 })],
    ["ops[0].to: expected an integer from 5 to 1024; got 3", () => run({ op: "layers", from: 5, to: 3 })],
    ["ops[0]: expected a layer of this shard; got 10", () => run({ op: "layers", from: 9, to: 11 })],
    ["ops[0].layers[0]: expected a layer of this shard; got 10", () => run({ op: "attend", layers: [10] })],
    ["ops[0].layers[2]: expected each layer once; got 4 again", () => run({ op: "attend", layers: [4, 5, 4] })],
    ["ops[0].attended: expected one element a layer", () => run({ op: "mlps", layers: [1, 2], attended: [null] })],
    [
      "ops[0].attended[0]: expected 768 bytes; got 0",
      () => run({ op: "mlps", layers: [1], attended: [new Uint8Array(0)] }),
    ],
    ["ops[0].returned: expected true or false", () => run({ op: "attend", layers: [1], returned: 1 })],
    ["ops[0].whole: expected true or false", () => run({ op: "mlps", layers: [1], attended: [bytes], whole: "yes" })],
    ["ops[0].rows: expected 1 to 512 rows", () => run({ ...head, rows: new Int32Array(0) })],
    ["ops[0].rows[1]: expected a row of 0 to 1; got 2", () => run({ ...head, rows: Int32Array.of(0, 2) })],
    ['ops[0].want: expected "tokens", "candidates" or "logits"; got "all"', () => run({ ...head, want: "all" })],
    ["ops[0].k: expected an integer from 1 to 1024", () => run({ ...head, want: "candidates" })],
    ["ops[0].k: expected an integer from 1 to 1024; got 0", () => run({ ...head, want: "candidates", k: 0 })],
    ["ops[0].top: expected an integer from 0 to 1024; got -1", () => run({ ...head, top: -1 })],
    ["ops[1]: expected nothing after a head", () => run(head, { op: "emit" })],
    ["ops[0]: expected a shard with the embedding", () => elsewhere({ op: "embed" })],
    ["ops[0]: expected a shard with the head", () => elsewhere(head)],
    ["ops[0]: expected a layer of this shard; got 7", () => elsewhere({ op: "layers", from: 6, to: 8 })],
    ["ops[0].layers[0]: expected a layer of this shard; got 2", () => elsewhere({ op: "attend", layers: [2] })],
    [
      "ops[0].layers[1]: expected a layer of this shard; got 9",
      () => elsewhere({ op: "mlps", layers: [8, 9], attended: [bytes, bytes] }),
    ],
  ])

  test("take shared memory and views into other buffers as they take any", async () => {
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length))
    const view = new Uint8Array(bytes.length + 1).subarray(1)
    const ops = (hidden: Uint8Array): ReadonlyArray<Op> => [{ op: "receive", hidden }, { op: "emit" }]
    for (const hidden of [shared, view]) expect((await pass.run(ops(hidden))).hiddens).toEqual([bytes])
  })
})

describe("objects", () => {
  test("are made by load and begin alone, and their methods are for them alone", () => {
    expect(() => Reflect.construct(Object.getPrototypeOf(whole).constructor, [])).toThrow("an engine is made by load")
    expect(() => Reflect.construct(Object.getPrototypeOf(pass).constructor, [whole])).toThrow("made by Engine.begin")
    for (const other of [pass, {}, Object.create(whole), null, 5]) {
      expect(() => Reflect.apply(whole.sessions, other, [])).toThrow(TypeError)
      expect(() => Reflect.apply(whole.dispose, other, [])).toThrow(TypeError)
    }
    for (const other of [whole, Object.create(pass)])
      expect(() => Reflect.apply(pass.end, other, [])).toThrow(TypeError)
  })
})

describe("options", () => {
  const options = optionsOf()
  const loading = (change: object) => call(native, "load", { ...options, ...change })
  const shape = (change: object) => loading({ shape: { ...model.shape, ...change } })
  const tensor = (change: object) => loading({ tensors: [{ ...model.tensors[0], ...change }] })
  refusals([
    ["options: expected an object", () => call(native, "load")],
    ['shape.architecture: expected one of llama, qwen2, qwen3; got "mamba"', () => shape({ architecture: "mamba" })],
    ["shape.layers: expected an integer from 1 to 1024; got 0", () => shape({ layers: 0 })],
    ["shape.kvHeads: expected a divisor of shape.heads", () => shape({ kvHeads: 2 })],
    ["shape.ropeDim: expected an even number", () => shape({ ropeDim: 31 })],
    ['shape.ropePairs: expected "halves" or "neighbours"', () => shape({ ropePairs: "thirds" })],
    ["shape.ropeFactors: expected 16 values", () => shape({ ropeFactors: new Float32Array(3) })],
    ["shape.normEps: expected a number from 0 to 1; got inf", () => shape({ normEps: Number.POSITIVE_INFINITY })],
    ["tensors: expected an array", () => loading({ tensors: {} })],
    ["tensors[0].file: expected a string without a NUL character", () => tensor({ file: "a\0" })],
    ["tensors[0].offset: expected an integer from 0 to 9007199254740992; got -8", () => tensor({ offset: -8 })],
    ['tensors[0].type: expected a weight type that ggml knows; got "float"', () => tensor({ type: "float" })],
    ['tensors[0].type: expected a weight type that ggml knows; got "q8_K"', () => tensor({ type: "q8_K" })],
    ["tensors[0].shape: expected one to four sizes", () => tensor({ shape: [] })],
    ["tensors[0].shape: expected at most 4 elements; got 5", () => tensor({ shape: [1, 1, 1, 1, 1] })],
    [
      "shard.attention[0]: expected an integer from 0 to 9; got 10",
      () => loading({ shard: { ...options.shard, attention: [10] } }),
    ],
    ["shard.embed: expected true or false", () => loading({ shard: { attention: [], mlp: [] } })],
    ['device: expected a device\'s name; got "TPU"', () => loading({ device: "TPU" })],
    ["threads: expected an integer from 1 to 512; got 0", () => loading({ threads: 0 })],
    ['kvType: expected "f16" or "f32"; got "q4_0"', () => loading({ kvType: "q4_0" })],
    ["progress: expected a function", () => call(native, "load", options, 5)],
  ])

  test("the folder of backends is chosen once a process", () => {
    expect(() => native.loadBackends("/")).toThrow("folder: backends were loaded from .chorus/backends already")
  })
})

describe("philox and sample", () => {
  const none = new Int32Array(0)
  refusals([
    ["counter: expected a Uint32Array", () => call(native, "philox", [0, 0, 0, 0], new Uint32Array(2))],
    ["key: expected a Uint32Array of 2", () => native.philox(new Uint32Array(4), new Uint32Array(3))],
    ["logits: expected 1 to 16777216 values", () => native.sample(new Float32Array(0), argmax, 0, none)],
    ["logits: expected a Float32Array", () => call(native, "sample", new Float64Array(1), argmax, 0, none)],
    [
      "position: expected an integer from 0 to 2147483647; got -1",
      () => native.sample(new Float32Array(1), argmax, -1, none),
    ],
    ["history: expected an Int32Array", () => call(native, "sample", new Float32Array(1), argmax, 0, [])],
  ])
})

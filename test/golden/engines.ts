// Engines for the golden tests: a whole model on the CPU, and passes over it in a line.
import { appendFileSync, closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import {
  type Engine,
  type EngineOptions,
  native,
  type Op,
  type Sampling,
  type Segment,
  type TensorSource,
} from "../../native/index.ts"
import { type Model, open, wholeShard } from "../../src/model/index.ts"

export const golden = <A>(name: string): A => JSON.parse(readFileSync(new URL(name, import.meta.url), "utf8"))

export const GREEDY: Sampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  seed: 1n,
}

export interface Subject {
  readonly engine: Engine
  readonly layers: number
  readonly width: number
  readonly vocab: number
}

interface Choices extends Pick<EngineOptions, "deterministic" | "kvType" | "threads"> {
  readonly widen: boolean // bf16 weights as f32
}

export const load = async (path: string, choices: Partial<Choices> = {}): Promise<Subject> => {
  native.loadBackends(join(import.meta.dirname, "../../.chorus/backends"))
  const model = await Effect.runPromise(open(path))
  const { shape } = model
  const { widen, ...others } = { widen: false, ...choices }
  const folder = mkdtempSync(join(tmpdir(), "chorus-f32-"))
  const tensors = widen ? widened(model, join(folder, "tensors")) : model.tensors
  // One thread: two of them wait for one another at every operation, and other tests run beside these.
  const defaults = { deterministic: true, kvType: "f16", threads: 1, device: "CPU" } as const
  const engine = await native.load({ ...defaults, ...others, shape, shard: wholeShard(shape), tensors })
  rmSync(folder, { recursive: true }) // what is mapped stays
  return { engine, layers: shape.layers, width: shape.width, vocab: shape.vocab }
}

/** A model's bf16 tensors as f32, in a file of their own. Nothing is lost: bf16 is the upper half of f32. */
const widened = ({ tensors }: Model, file: string): ReadonlyArray<TensorSource> => {
  let offset = 0
  return tensors.map((tensor) => {
    if (tensor.type !== "bf16") throw new Error(`${tensor.name} is ${tensor.type}; expected bf16`)
    const narrow = new Uint16Array(tensor.bytes / 2)
    const source = openSync(tensor.file, "r")
    readSync(source, narrow, 0, tensor.bytes, tensor.offset)
    closeSync(source)
    const values = Uint32Array.from(narrow, (half) => half << 16)
    appendFileSync(file, new Uint8Array(values.buffer))
    const wide = { ...tensor, file, type: "f32", offset, bytes: values.byteLength }
    offset += wide.bytes
    return wide
  })
}

/** Tokens one after the other, after the last slot of a session. */
export const line = (engine: Engine, session: string, tokens: ReadonlyArray<number>): Segment => {
  const slot = engine.used(session)
  return { session, tokens: Int32Array.from(tokens), parents: Int32Array.from(tokens, (_, i) => slot + i - 1) }
}

export const exact = ({ layers }: Subject): ReadonlyArray<Op> => [
  { op: "embed" },
  { op: "layers", from: 0, to: layers },
]

export const head = (rows: Iterable<number>): Op => ({ op: "head", rows: Int32Array.from(rows), want: "logits" })

export const run = async (engine: Engine, segments: ReadonlyArray<Segment>, ops: ReadonlyArray<Op>) => {
  const pass = engine.begin(segments)
  try {
    return await pass.run(ops)
  } finally {
    pass.end()
  }
}

/** Keeps the last `count` slots of a session. */
export const keep = (engine: Engine, session: string, count: number): Promise<void> => {
  const from = engine.used(session) - count
  return engine.commit(
    session,
    Int32Array.from({ length: count }, (_, i) => from + i),
  )
}

/** Runs and commits tokens; the logits after the last one. */
export const append = async (subject: Subject, session: string, tokens: ReadonlyArray<number>) => {
  const { engine } = subject
  const segment = line(engine, session, tokens)
  const { logits } = await run(engine, [segment], [...exact(subject), head([tokens.length - 1])])
  await keep(engine, session, tokens.length)
  return logits ?? new Float32Array()
}

/** The row's index of its largest value, the first of equals. */
export const argmax = (logits: Float32Array): number =>
  logits.reduce((best, logit, v) => (logit > (logits[best] ?? Number.NaN) ? v : best), 0)

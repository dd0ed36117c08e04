// The demo draft, loaded by itself: no ranks, no bus.
import { Effect } from "effect"
import { expect } from "vitest"
import {
  type Engine,
  type EngineOptions,
  native,
  type Op,
  type Sampling,
  type Shard,
  type StretchResult,
} from "../../../native/index.ts"
import { type Model, open, wholeShard } from "../../../src/model/index.ts"

native.loadBackends(".chorus/backends")

export const model: Model = await Effect.runPromise(open("models/demo/draft"))
const { layers } = model.shape

export const argmax: Sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0n }

/** Rank 1 of 2 under `layer`: some attention, the MLPs between the first and the last layer, neither embedding nor head. */
export const partialShard: Shard = {
  attention: [3, 4, 5, 6],
  mlp: Array.from({ length: layers - 2 }, (_, i) => i + 1),
  embed: false,
  head: false,
}

export const optionsOf = (change: Partial<EngineOptions> = {}): EngineOptions => ({
  shape: model.shape,
  tensors: model.tensors,
  shard: wholeShard(model.shape),
  device: "CPU",
  threads: 1,
  deterministic: true,
  kvType: "f16",
  ...change,
})

export const load = (change: Partial<EngineOptions> = {}): Promise<Engine> => native.load(optionsOf(change))

/** "export class Queue<T> {\n", and how float32 PyTorch goes on. */
export const prompt = Int32Array.of(362, 800, 35, 3961, 334, 63, 87, 65, 285, 13)
export const continuation = [128, 13, 13, 480, 13, 263, 333, 928]

/** A chain's parents: the slot before each. */
export const chain = (from: number, count: number): Int32Array =>
  Int32Array.from({ length: count }, (_, i) => from + i - 1)

export const all = { op: "layers", from: 0, to: layers } as const
export const head = (row: number): Op => ({ op: "head", rows: Int32Array.of(row), want: "tokens" })

/** Runs tokens through the whole model and keeps their KV. */
export const extend = async (engine: Engine, session: string, tokens: Int32Array): Promise<StretchResult> => {
  const from = engine.used(session)
  const pass = engine.begin([{ session, tokens, parents: chain(from, tokens.length) }])
  const result = await pass.run([{ op: "embed" }, all, head(tokens.length - 1)])
  pass.end()
  await engine.commit(
    session,
    tokens.map((_, i) => from + i),
  )
  return result
}

/** The engine works: its tokens are the reference's. */
export const expectSound = async (engine: Engine, session = "sound"): Promise<void> => {
  engine.open(session, argmax)
  const tokens: Array<number> = []
  let next: Int32Array = prompt
  while (tokens.length < continuation.length) {
    next = (await extend(engine, session, next)).tokens ?? new Int32Array(0)
    tokens.push(...next)
  }
  engine.close(session)
  expect(tokens).toEqual(continuation)
}

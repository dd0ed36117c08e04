// A model on the native engine of this process, run as a single rank runs it, without ranks and messages around it.
import { Effect } from "effect"
import { BACKENDS, type Engine, native, type Op, type Segment, type StretchResult } from "../native/index.ts"
import { kvTypeOf, type Model, open, wholeShard } from "../src/model/index.ts"
import { chain } from "../src/rank/device/chain.ts"
import { positionOf } from "../src/speculation/indices.ts"
import { GREEDY } from "../src/wire/pass.ts"

export const loadBackends = (): void => native.loadBackends(BACKENDS)

export interface Loaded {
  readonly model: Model
  readonly engine: Engine
}

export interface EngineSettings {
  readonly threads: number
  readonly deterministic?: boolean
}

/** Loads a whole model on the CPU. */
export const load = async (path: string, { threads, deterministic = true }: EngineSettings): Promise<Loaded> => {
  loadBackends()
  const model = await Effect.runPromise(open(path))
  const { shape, tensors } = model
  const device = { device: "CPU", threads, deterministic, kvType: kvTypeOf(shape) } as const
  return { model, engine: await native.load({ shape, tensors, shard: wholeShard(shape), ...device }) }
}

/** One pass, as one native call. */
const run = async (engine: Engine, rows: Segment, ops: ReadonlyArray<Op>): Promise<StretchResult> => {
  const pass = engine.begin([rows])
  try {
    return await pass.run(ops)
  } finally {
    pass.end()
  }
}

/** All layers in order. */
export const exactOps = ({ shape }: Model): ReadonlyArray<Op> => [
  { op: "embed" },
  { op: "layers", from: 0, to: shape.layers },
]

/** The sampler's token after the given row. */
export const tokenAfter = (row: number): Op => ({ op: "head", rows: Int32Array.of(row), want: "tokens" })

/** Runs tokens after what a session holds. They stay uncommitted. */
export const append = (
  { engine }: Loaded,
  session: string,
  tokens: ReadonlyArray<number>,
  ops: ReadonlyArray<Op>,
): Promise<StretchResult> => run(engine, chain(session, positionOf(engine.used(session)), tokens), ops)

/** Commits all that a session holds. */
export const commitAll = ({ engine }: Loaded, session: string): Promise<void> => {
  const from = engine.committed(session)
  return engine.commit(
    session,
    Int32Array.from({ length: engine.used(session) - from }, (_, row) => from + row),
  )
}

const CHUNK = 48 // rows of a prefill pass

/** Runs tokens exactly and keeps their KV. */
export const prefill = async (loaded: Loaded, session: string, tokens: ReadonlyArray<number>): Promise<void> => {
  for (let from = 0; from < tokens.length; from += CHUNK) {
    await append(loaded, session, tokens.slice(from, from + CHUNK), exactOps(loaded.model))
    await commitAll(loaded, session)
  }
}

/** Greedy decoding, step by step, until the model ends or there are `count` tokens. */
export const decode = async (
  loaded: Loaded,
  session: string,
  last: number,
  count: number,
): Promise<ReadonlyArray<number>> => {
  const made: Array<number> = []
  for (let token = last; made.length < count; made.push(token)) {
    const { tokens } = await append(loaded, session, [token], [...exactOps(loaded.model), tokenAfter(0)])
    await commitAll(loaded, session)
    token = tokens?.[0] ?? 0
    if (loaded.model.ends.has(token)) break
  }
  return made
}

/** Runs `use` with a session of its own. */
export const withSession = async <A>({ engine }: Loaded, session: string, use: () => Promise<A>): Promise<A> => {
  engine.open(session, GREEDY)
  try {
    return await use()
  } finally {
    engine.close(session)
  }
}

// A model in the place of the real one: a row's hidden state is a hash, of its token and of all that its attention sees in
// each layer, and the next token is that hash again. So a token shows whether every rank held exactly the KV that it
// should; nothing that is wrong or missing goes unnoticed. It takes the engine's steps, so the product's strategies run on it.
import { Effect, Semaphore } from "effect"
import type { Op, Sampling, Segment, StretchResult } from "../../native/index.ts"
import type { GenerateRequest } from "../../src/generation/request.ts"
import { type Batch, type Compute, ComputeFailed } from "../../src/rank/device/compute.ts"
import { positionOf } from "../../src/speculation/indices.ts"
import { sample } from "../../src/speculation/sampler.ts"
import type { Mutation } from "./mutation.ts"

export const VOCABULARY = 24
export const END = VOCABULARY - 1

export interface ModelShape {
  readonly layers: number
  readonly salt: number // another model has another one
}

const mix = (a: number, b: number): number => {
  let h = Math.imul(a ^ (b + 0x9e3779b9 + (a << 6) + (a >>> 2)), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

const NOTHING = 0x51ed270b // what a row's attention sees where there is nothing
const embedding = (token: number, salt: number): number => mix(token + 1, salt)
/** What a layer keeps of a row: all that it has seen so far. */
const attention = (seen: number, h: number, layer: number): number => mix(mix(seen, h), layer + 1)
const tokenOf = (h: number): number => h % VOCABULARY

/** Where the request changes nothing the token is the hash's; else the sampler's, by logits in which that one leads. */
const chosen = (h: number, sampling: Sampling, history: () => ReadonlyArray<number>): number => {
  const { penalties, bias, barred } = sampling
  if (penalties === undefined && bias === undefined && barred === undefined) return tokenOf(h)
  const lead = (token: number) => (token === tokenOf(h) ? 1 : 0)
  const logits = Float32Array.from({ length: VOCABULARY }, (_, token) => lead(token) + (mix(h, token) % 1000) / 1000)
  const said = history()
  return sample(logits, sampling, positionOf(said.length), said)
}

const logProbOf = (h: number): number => Math.fround(-(h % 9973) / 997)

export interface Predicted {
  readonly token: number
  readonly logProb: number
}

/** What the model says after some tokens: all of it computed anew, without KV. */
export const predict = (tokens: ReadonlyArray<number>, model: ModelShape, sampling: Sampling): Predicted => {
  const h = stateAfter(tokens, model)
  return { token: chosen(h, sampling, () => tokens), logProb: logProbOf(h) }
}

/** What of a request decides its answer. */
type Asked = Pick<GenerateRequest, "prompt" | "maxTokens" | "sampling" | "ignoreEos">

const stateAfter = (tokens: ReadonlyArray<number>, { layers, salt }: ModelShape): number => {
  const seen = new Array<number>(layers).fill(NOTHING)
  let h = 0
  for (const token of tokens) {
    h = embedding(token, salt)
    for (let layer = 0; layer < layers; layer++) {
      const a = attention(seen[layer] ?? NOTHING, h, layer)
      seen[layer] = a
      h = mix(h, a)
    }
  }
  return h
}

/** What it says of each token of a prompt but the first. */
export const scores = (prompt: ReadonlyArray<number>, { layers, salt }: ModelShape): ReadonlyArray<number> =>
  prompt.slice(1).map((token, i) => logProbOf(mix(stateAfter(prompt.slice(0, i + 1), { layers, salt }), token)))

/** All that it says after a prompt, undisturbed. */
export const answer = (
  { prompt, maxTokens, sampling, ignoreEos }: Asked,
  model: ModelShape,
): ReadonlyArray<Predicted> => {
  const tokens: Array<number> = [...prompt]
  const said: Array<Predicted> = []
  while (said.length < maxTokens) {
    const next = predict(tokens, model, sampling)
    if (next.token === END && !ignoreEos) break
    tokens.push(next.token)
    said.push(next)
  }
  return said
}

/** Of each layer that a row went through here. */
type Layers = Array<number | undefined>

/** A row of KV. */
interface Slot {
  readonly token: number
  readonly layers: Layers
  readonly before: Slot | null // its parent
}

/** The tokens up to a row. */
const pathTo = (slot: Slot): ReadonlyArray<number> => {
  const path: Array<number> = []
  for (let at: Slot | null = slot; at !== null; at = at.before) path.push(at.token)
  return path.reverse()
}

interface Kv {
  readonly sampling: Sampling
  readonly slots: Array<Slot>
  committed: number
  busy: number // passes that have not ended
  carried: boolean // while rows of it are exported or imported
}

/** Of what is carried from engine to engine at once. */
const ROWS_OF_PIECE = 16
const PIECE_BYTES = 4 * 2 ** 20

/** How long a call takes, drawn anew for each. */
export type Pace = () => number

export class HashEngine {
  readonly #model: ModelShape
  readonly #pace: Pace
  readonly #mutation: Mutation | null
  readonly #standby: boolean
  readonly #kv = new Map<string, Kv>()
  readonly #rest = Semaphore.makeUnsafe(1)

  constructor(model: ModelShape, pace: Pace, mutation: Mutation | null, standby = false) {
    this.#standby = standby
    this.#model = model
    this.#pace = pace
    this.#mutation = mutation
  }

  sessions(): ReadonlyArray<string> {
    return [...this.#kv.keys()]
  }

  /** As the ranks' passes use it. */
  get compute(): Compute["Service"] {
    return {
      device: { name: "hash", description: "", kind: "cpu", variant: "", memoryFree: 0, memoryTotal: 0 },
      maxRows: 512,
      bytesOfWeights: 0,
      bytesOfKv: () => 0,
      bytesOfKvPerToken: () => PIECE_BYTES / ROWS_OF_PIECE,
      kvTokens: () => 1_000_000,
      computeMillis: () => 0,
      open: (session, sampling) =>
        this.#attempt(() => void this.#kv.set(session, { sampling, slots: [], committed: 0, busy: 0, carried: false })),
      close: (session) => this.#rest.withPermits(1)(Effect.sync(() => this.#close(session))),
      holds: (session) => this.sessions().includes(session),
      sessions: () => this.sessions(),
      used: (session) => this.#of(session).slots.length,
      committed: (session) => this.#of(session).committed,
      commit: (session, slots) => this.#attempt(() => this.#commit(session, slots)),
      truncate: (session, length) =>
        this.#attempt(() => {
          const kv = this.#resting(session)
          if (this.#mutation === "ranks keep what was not accepted") return
          kv.slots.length = length
          kv.committed = Math.min(kv.committed, length)
        }),
      copy: (from, to, length) => this.#attempt(() => this.#copy(from, to, length)),
      narrow: () => Effect.void,
      kvExport: (session, from, to) =>
        this.#carried(session, (kv) => packRows(from, kv.slots.slice(from, Math.min(to, kv.committed)), this.#model)),
      kvImport: (session, bytes) => this.#carried(session, (kv) => this.#import(kv, unpackRows(bytes, this.#model))),
      once: (segments, ops) => this.#batch(segments, ({ run }) => run(ops)),
      batch: (segments, use) => this.#batch(segments, use),
    }
  }

  #attempt<A>(call: () => A): Effect.Effect<A, ComputeFailed> {
    return Effect.try({ try: call, catch: (error) => new ComputeFailed({ reason: String(error) }) })
  }

  #close(session: string): void {
    if (this.#mutation !== "ranks do not free the KV of ended sessions") this.#kv.delete(session)
  }

  #of(session: string): Kv {
    const kv = this.#kv.get(session)
    if (kv === undefined) throw new Error(`there is no session ${session}`)
    return kv
  }

  #resting(session: string): Kv {
    const kv = this.#of(session)
    if (kv.busy > 0) throw new Error(`a pass of ${session} has not ended`)
    return this.#still(session, kv)
  }

  #still(session: string, kv: Kv): Kv {
    if (kv.carried) throw new Error(`rows of ${session} are being carried`)
    return kv
  }

  /** It takes a while, in which nothing else may use the session; closing it waits. */
  #carried<A>(session: string, use: (kv: Kv) => A): Effect.Effect<A, ComputeFailed> {
    return this.#rest.withPermits(1)(
      Effect.uninterruptible(
        Effect.gen({ self: this }, function* () {
          const kv = yield* this.#attempt(() => this.#resting(session))
          kv.carried = true
          yield* Effect.sleep(this.#pace())
          kv.carried = false
          return yield* this.#attempt(() => use(kv))
        }),
      ),
    )
  }

  #import(kv: Kv, { from, slots }: Rows): void {
    if (from !== kv.committed) throw new Error(`rows begin at ${from}, and not at ${kv.committed}`)
    const [first, ...others] = slots
    const beside = this.#mutation === "rows that come from elsewhere are put beside their place" && first !== undefined
    kv.slots.length = kv.committed
    append(kv, beside ? [...others, first] : this.#late(kv, slots))
    kv.committed = kv.slots.length
  }

  /** A standby whose newest rows are those of the delta before. */
  #late(kv: Kv, slots: Rows["slots"]): Rows["slots"] {
    if (this.#mutation !== "a standby is behind by one delta" || !this.#standby) return slots
    const last = kv.slots.at(-1)
    return last === undefined ? slots : slots.map((slot) => ({ token: slot.token, layers: last.layers }))
  }

  #commit(session: string, slots: Int32Array): void {
    const kv = this.#resting(session)
    const kept = [...slots].map((slot) => kv.slots[slot])
    kv.slots.length = kv.committed
    for (const slot of kept) {
      if (slot === undefined) throw new Error(`${session} has no such slot`)
      kv.slots.push(slot)
    }
    kv.committed = kv.slots.length
  }

  #copy(from: string, to: string, length: number): boolean {
    const source = this.#kv.get(from)
    if (source === undefined || source.committed < length) return false
    const kv = this.#resting(to)
    append(kv, source.slots.slice(0, length))
    kv.committed = length
    return true
  }

  #batch<A, E>(
    segments: ReadonlyArray<Segment>,
    use: (batch: Batch) => Effect.Effect<A, E>,
  ): Effect.Effect<A, E | ComputeFailed> {
    return Effect.acquireUseRelease(
      this.#attempt(() => segments.map((segment) => this.#begin(segment))),
      (rows) => {
        const pass = new HashPass(this.#model, rows.flat())
        const run = (ops: ReadonlyArray<Op>) =>
          Effect.andThen(
            Effect.suspend(() => Effect.sleep(this.#pace())),
            this.#attempt(() => pass.run(ops)),
          )
        return use({ tokens: rows.flat().length, micros: () => 0, run })
      },
      (rows) =>
        Effect.sync(() => {
          for (const [row] of rows) if (row !== undefined) row.kv.busy--
        }),
    )
  }

  #begin({ session, tokens, parents }: Segment): ReadonlyArray<Row> {
    const kv = this.#still(session, this.#of(session))
    if (tokens.length > 0) kv.busy++
    return [...tokens].map((token, i): Row => {
      const parent = parents[i] ?? -1
      if (parent >= kv.slots.length) throw new Error(`${session} has no slot ${parent}`)
      const slot: Slot = { token, layers: [], before: parent === -1 ? null : (kv.slots[parent] ?? null) }
      kv.slots.push(slot)
      return { slot, kv }
    })
  }
}

interface Row {
  readonly slot: Slot
  readonly kv: Kv
}

/** One after the other, as they were elsewhere. */
const append = (kv: Kv, rows: ReadonlyArray<Pick<Slot, "token" | "layers">>): void => {
  for (const { token, layers } of rows) kv.slots.push({ token, layers: [...layers], before: kv.slots.at(-1) ?? null })
}

/** A pass: h of each row, and what the attentions of a layer have said. */
class HashPass {
  readonly #model: ModelShape
  readonly #rows: ReadonlyArray<Row>
  readonly #attended = new Map<number, ReadonlyArray<number>>()
  #h: ReadonlyArray<number> = []

  constructor(model: ModelShape, rows: ReadonlyArray<Row>) {
    this.#model = model
    this.#rows = rows
  }

  run(ops: ReadonlyArray<Op>): StretchResult {
    const hiddens: Array<Uint8Array> = []
    const attended: Array<Uint8Array> = []
    let head: Pick<StretchResult, "tokens" | "logProbs" | "topTokens" | "topLogProbs"> | null = null
    for (const op of ops) {
      switch (op.op) {
        case "embed":
          this.#h = this.#rows.map(({ slot }) => embedding(slot.token, this.#model.salt))
          break
        case "receive":
          this.#h = unpack(op.hidden)
          break
        case "layers":
          for (let layer = op.from; layer < op.to; layer++) this.#add(this.#attend(layer))
          break
        case "attend":
          for (const layer of op.layers) {
            const said = this.#attend(layer)
            this.#attended.set(layer, said)
            if (op.returned !== false) attended.push(pack(said))
          }
          break
        case "mlps":
          op.layers.forEach((layer, i) => {
            const came = op.attended[i] ?? null
            this.#add(came === null ? (this.#attended.get(layer) ?? []) : unpack(came))
          })
          break
        case "emit":
          hiddens.push(pack(this.#h))
          break
        case "head":
          head = this.#head(op)
      }
    }
    const none = { tokens: null, logProbs: null, topTokens: null, topLogProbs: null }
    return { hiddens, attended, ...(head ?? none), logits: null, micros: 0 }
  }

  /** A row's parent stands before it, so what it sees is there already. */
  #attend(layer: number): ReadonlyArray<number> {
    return this.#rows.map(({ slot }, row) => {
      const seen = slot.before === null ? NOTHING : (slot.before.layers[layer] ?? 0)
      const said = attention(seen, this.#h[row] ?? 0, layer)
      slot.layers[layer] = said
      return said
    })
  }

  #add(said: ReadonlyArray<number>): void {
    this.#h = this.#h.map((h, row) => mix(h, said[row] ?? 0))
  }

  #head({ rows, want, k = 1, given }: Extract<Op, { readonly op: "head" }>) {
    const states = [...rows].map((row) => this.#h[row] ?? 0)
    const choice = (i: number, h: number): number => {
      const row = this.#rows[rows[i] ?? 0]
      return row === undefined ? tokenOf(h) : chosen(h, row.kv.sampling, () => pathTo(row.slot))
    }
    const [tokens, logProbs]: [Array<number>, Array<number>] = [[], []]
    for (const [i, h] of states.entries()) {
      const known = given?.[i]
      if (known !== undefined) {
        tokens.push(known)
        logProbs.push(logProbOf(mix(h, known)))
      } else if (want === "tokens") {
        tokens.push(choice(i, h))
        logProbs.push(logProbOf(h))
      } else {
        const first = choice(i, h)
        for (let j = 0; j < k; j++) {
          tokens.push((first + j * 5) % VOCABULARY)
          logProbs.push(-(j + 1) / 4)
        }
      }
    }
    return {
      tokens: Int32Array.from(tokens),
      logProbs: Float32Array.from(logProbs),
      topTokens: new Int32Array(0),
      topLogProbs: new Float32Array(0),
    }
  }
}

/** Rows of KV, from one position on. */
interface Rows {
  readonly from: number
  readonly slots: ReadonlyArray<Pick<Slot, "token" | "layers">>
}

/** As numbers, in which a layer that is not this rank's is none. */
const packRows = (from: number, slots: Rows["slots"], model: ModelShape): Uint8Array => {
  const rows = slots.flatMap(({ token, layers }) => [
    token,
    ...Array.from({ length: model.layers }, (_, layer) => layers[layer] ?? Number.NaN),
  ])
  return new Uint8Array(Float64Array.from([from, ...rows]).buffer)
}

const unpackRows = (bytes: Uint8Array, { layers }: ModelShape): Rows => {
  const [from = 0, ...rows] = new Float64Array(new Uint8Array(bytes).buffer)
  const slots = Array.from({ length: rows.length / (layers + 1) }, (_, row) => {
    const [token = 0, ...values] = rows.slice(row * (layers + 1), (row + 1) * (layers + 1))
    return { token, layers: values.map((value) => (Number.isNaN(value) ? undefined : value)) }
  })
  return { from, slots }
}

const pack = (values: ReadonlyArray<number>): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer)

const unpack = (bytes: Uint8Array): ReadonlyArray<number> => {
  const copy = new Uint8Array(bytes)
  return [...new Uint32Array(copy.buffer)]
}

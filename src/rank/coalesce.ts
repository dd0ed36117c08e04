// Continuous batching: stretches of different sessions that ask the same of the device run as one. A session joins when its
// stretch comes and leaves with its result; rows of one never see those of another.
import { Deferred, Effect, type Semaphore } from "effect"
import type { Op, Segment, StretchResult } from "../../native/index.ts"

/** A whole pass on this rank: its rows, and the one native call that they need. */
export interface Stretch {
  readonly segments: ReadonlyArray<Segment>
  readonly ops: ReadonlyArray<Op>
}

interface Asked<E> extends Stretch {
  readonly outcome: Deferred.Deferred<StretchResult, E>
}

/** When only a part of those whom the last call has served is back, one that could lead the next waits so long for the others, at most. */
const LINGER_MILLIS = 1
const PART = 0.75 // fewer than that: for the last few, the wait would cost more than it brings

/** Whoever gets the device first takes the others along. */
export class Coalescer<E> {
  readonly #turn: Semaphore.Semaphore
  readonly #maxRows: number
  readonly #call: (stretches: ReadonlyArray<Stretch>) => Effect.Effect<StretchResult, E>
  readonly #waiting = new Set<Asked<E>>()
  #last = 1 // stretches of the last call
  #complete: Deferred.Deferred<void> | null = null // for one that waits until there are as many again

  constructor(
    turn: Semaphore.Semaphore,
    maxRows: number,
    call: (stretches: ReadonlyArray<Stretch>) => Effect.Effect<StretchResult, E>,
  ) {
    this.#turn = turn
    this.#maxRows = maxRows
    this.#call = call
  }

  run(stretch: Stretch): Effect.Effect<StretchResult, E> {
    return Effect.suspend(() => {
      const asked: Asked<E> = { ...stretch, outcome: Deferred.makeUnsafe<StretchResult, E>() }
      this.#waiting.add(asked)
      if (this.#complete !== null && this.#waiting.size >= this.#last) Deferred.doneUnsafe(this.#complete, Effect.void)
      return this.#turn
        .withPermits(1)(this.#lead(asked))
        .pipe(
          // One that others have taken along ends with them, so that its session is at rest afterwards.
          Effect.onInterrupt(() =>
            this.#waiting.delete(asked) ? Effect.void : Effect.exit(Deferred.await(asked.outcome)),
          ),
        )
    })
  }

  #lead(asked: Asked<E>): Effect.Effect<StretchResult, E> {
    return Effect.gen({ self: this }, function* () {
      if (!this.#waiting.has(asked)) return yield* Deferred.await(asked.outcome)
      if (this.#waiting.size < PART * this.#last) yield* this.#linger
      yield* Effect.uninterruptibleMask((restore) => this.#serve(this.#take(asked), restore))
      return yield* Deferred.await(asked.outcome)
    })
  }

  /** Until as many wait as the last call has served, but not for long. */
  get #linger(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const complete = Deferred.makeUnsafe<void>()
      this.#complete = complete
      return Effect.timeoutOption(Deferred.await(complete), LINGER_MILLIS).pipe(
        Effect.ensuring(Effect.sync(() => (this.#complete = null))),
      )
    })
  }

  /** Whatever becomes of the call, each has its outcome: also one that is interrupted, and waits to be at rest. */
  #serve(together: ReadonlyArray<Asked<E>>, restore: <A>(call: Effect.Effect<A, E>) => Effect.Effect<A, E>) {
    const call = this.#call(together)
    return (together.length === 1 ? restore(call) : call).pipe(
      // others' work is not stopped for one
      Effect.onExit((exit) =>
        Effect.forEach(together, ({ outcome }, i) =>
          Deferred.complete(
            outcome,
            Effect.map(exit, (result) => at(divide(together, result), i)),
          ),
        ),
      ),
      Effect.exit,
    )
  }

  #take(asked: Asked<E>): ReadonlyArray<Asked<E>> {
    const together = [asked]
    let rows = rowsOf([asked])
    for (const other of this.#waiting) {
      if (other === asked || !alike(asked.ops, other.ops)) continue
      const more = rowsOf([other])
      if (rows + more > this.#maxRows) continue
      together.push(other)
      rows += more
    }
    for (const one of together) this.#waiting.delete(one)
    this.#last = together.length
    return together
  }
}

const at = <A>(all: ReadonlyArray<A>, i: number): A => {
  const one = all[i]
  if (one === undefined) throw new RangeError(`${i} of ${all.length}`)
  return one
}

/** Whether two stretches can be one: the same steps, save for the hidden states that they begin with and the rows of their heads. */
export const alike = (one: ReadonlyArray<Op>, other: ReadonlyArray<Op>): boolean => {
  const [a, b] = [withoutHead(one), withoutHead(other)]
  const heads = [one.at(-1), other.at(-1)].filter((op) => op?.op === "head")
  const [first, second] = heads
  const sameHead = first === undefined || second === undefined || sameAnswer(first, second)
  return sameHead && a.length === b.length && a.every((op, i) => sameStep(op, b[i]))
}

const sameAnswer = (a: Head, b: Head): boolean => a.want === b.want && a.k === b.k && (a.top ?? 0) === (b.top ?? 0)

const withoutHead = (ops: ReadonlyArray<Op>): ReadonlyArray<Op> => ops.filter(({ op }) => op !== "head")

const sameStep = (a: Op, b: Op | undefined): boolean => {
  if (b === undefined || a.op !== b.op) return false
  if (a.op === "layers" && b.op === "layers") return a.from === b.from && a.to === b.to
  if (a.op === "attend" && b.op === "attend") return same(a.layers, b.layers)
  if (a.op === "mlps" && b.op === "mlps") return same(a.layers, b.layers) && !came(a) && !came(b)
  return a.op !== "head"
}

const same = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): boolean =>
  a.length === b.length && a.every((x, i) => x === b[i])

/** Whether attention outputs of other ranks are among a step's operands. */
const came = ({ attended }: Extract<Op, { readonly op: "mlps" }>): boolean => attended.some((block) => block !== null)

/** The steps of several stretches as those of one. */
export const merge = (stretches: ReadonlyArray<Stretch>): ReadonlyArray<Op> => {
  const [first] = stretches
  if (first === undefined || stretches.length === 1) return first?.ops ?? []
  const begins = offsets(stretches)
  const merged = withoutHead(first.ops).map((op, i): Op => {
    if (op.op !== "receive") return op
    const hiddens = stretches.map(({ ops }) => withoutHead(ops)[i])
    return { op: "receive", hidden: Buffer.concat(hiddens.map((op) => (op?.op === "receive" ? op.hidden : EMPTY))) }
  })
  const rows = stretches.flatMap(({ ops }, i) => Array.from(headOf(ops)?.rows ?? [], (row) => row + (begins[i] ?? 0)))
  const head = stretches.map(({ ops }) => headOf(ops)).find((op) => op !== undefined)
  return head === undefined ? merged : [...merged, { ...head, rows: Int32Array.from(rows) }]
}

const EMPTY = new Uint8Array(0)

/** What each stretch gets of the one result. The device's time is shared out by rows. */
export const divide = (stretches: ReadonlyArray<Stretch>, result: StretchResult): ReadonlyArray<StretchResult> => {
  if (stretches.length === 1) return [result]
  const begins = offsets(stretches)
  const total = rowsOf(stretches)
  let headRow = 0
  const heads = stretches.reduce((sum, { ops }) => sum + (headOf(ops)?.rows.length ?? 0), 0)
  return stretches.map((stretch, i) => {
    const { ops } = stretch
    const rows = rowsOf([stretch])
    const begin = begins[i] ?? 0
    const mine = headOf(ops)?.rows.length ?? 0
    const from = headRow
    headRow += mine
    const bytes = (block: Uint8Array) => {
      const row = block.byteLength / total
      return block.subarray(begin * row, (begin + rows) * row)
    }
    const values = <A extends Sliced<A>>(all: A | null): A | null => {
      if (all === null || mine === 0) return null
      const each = all.length / heads
      return all.subarray(from * each, (from + mine) * each)
    }
    return {
      hiddens: result.hiddens.map(bytes),
      attended: result.attended.map(bytes),
      tokens: values(result.tokens),
      logProbs: values(result.logProbs),
      topTokens: values(result.topTokens),
      topLogProbs: values(result.topLogProbs),
      logits: values(result.logits),
      micros: (result.micros * rows) / total,
    }
  })
}

/** An Int32Array or a Float32Array. */
interface Sliced<A> {
  readonly length: number
  subarray(from: number, to: number): A
}

type Head = Extract<Op, { readonly op: "head" }>

const headOf = (ops: ReadonlyArray<Op>): Head | undefined => ops.find((op) => op.op === "head")

const rowsOf = (stretches: ReadonlyArray<Pick<Stretch, "segments">>): number =>
  stretches.flatMap(({ segments }) => segments).reduce((sum, { tokens }) => sum + tokens.length, 0)

/** The row of the batch with which each stretch begins. */
const offsets = (stretches: ReadonlyArray<Stretch>): ReadonlyArray<number> => {
  let row = 0
  return stretches.map((stretch) => {
    const begin = row
    row += rowsOf([stretch])
    return begin
  })
}

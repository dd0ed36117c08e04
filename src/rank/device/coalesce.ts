// Continuous batching: stretches of different sessions that ask the same of the device run as one. A session joins when its
// stretch comes and leaves with its result; rows of one never see those of another.
import { Deferred, Effect, Exit, Fiber, type Semaphore } from "effect"
import type { Op, Segment, StretchResult } from "../../../native/index.ts"

/** A whole pass on this rank: its rows, and the one native call that they need. */
export interface Stretch {
  readonly segments: ReadonlyArray<Segment>
  readonly ops: ReadonlyArray<Op>
}

interface PendingStretch<E> extends Stretch {
  readonly outcome: Deferred.Deferred<StretchResult, E>
}

/** A call, and the passes that it serves. */
interface Running<E> {
  readonly together: ReadonlyArray<PendingStretch<E>>
  readonly call: Fiber.Fiber<StretchResult, E>
}

/** Until this share of the passes that the last call served is back, the next call waits, but no longer than the limit below. */
const PART = 0.75
const LINGER_MILLIS = 1

/** One fibre, while there is something to do, calls for all. */
export class Coalescer<E> {
  readonly #turn: Semaphore.Semaphore
  readonly #maxRows: number
  readonly #call: (stretches: ReadonlyArray<Stretch>) => Effect.Effect<StretchResult, E>
  readonly #waiting = new Set<PendingStretch<E>>()
  #serving = false
  #running: Running<E> | null = null
  #last = 1 // stretches of the last call
  #enough: Deferred.Deferred<void> | null = null // wait for the next call

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
      const asked: PendingStretch<E> = { ...stretch, outcome: Deferred.makeUnsafe<StretchResult, E>() }
      this.#waiting.add(asked)
      if (this.#enough !== null && this.#areEnough) Deferred.doneUnsafe(this.#enough, Effect.void)
      const outcome = Effect.onInterrupt(Deferred.await(asked.outcome), () => this.#withdraw(asked))
      if (this.#serving) return outcome
      this.#serving = true
      return Effect.andThen(Effect.forkDetach(this.#serve), outcome) // it begins when all that can ask now have
    })
  }

  get #areEnough(): boolean {
    return this.#waiting.size >= PART * this.#last
  }

  /** Stops a call that serves no other pass. One that others have taken along ends with them, so that its session is at rest afterwards. */
  #withdraw(asked: PendingStretch<E>): Effect.Effect<unknown> {
    return Effect.suspend(() => {
      if (this.#waiting.delete(asked)) return Effect.void
      const running = this.#running
      const alone = running !== null && running.together.length === 1 && running.together[0] === asked
      const stopped = alone ? Fiber.interrupt(running.call) : Effect.void
      return Effect.andThen(stopped, Effect.exit(Deferred.await(asked.outcome)))
    })
  }

  /** Calls until none waits. */
  get #serve(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#serving = this.#waiting.size > 0
      return this.#serving ? Effect.andThen(this.#turn.withPermits(1)(this.#next), this.#serve) : Effect.void
    })
  }

  get #next(): Effect.Effect<void> {
    return Effect.suspend(() => (this.#areEnough ? this.#callNow : Effect.andThen(this.#linger, this.#callNow)))
  }

  get #linger(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const enough = Deferred.makeUnsafe<void>()
      this.#enough = enough
      return Effect.timeoutOption(Deferred.await(enough), LINGER_MILLIS).pipe(
        Effect.ensuring(Effect.sync(() => (this.#enough = null))),
      )
    })
  }

  /** Whatever becomes of the call, each pass that it serves has its outcome. */
  get #callNow(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      const together = this.#take()
      if (together.length === 0) return
      const call = yield* Effect.forkChild(this.#call(together), { startImmediately: true })
      this.#running = { together, call }
      const exit = yield* Fiber.await(call)
      this.#running = null
      const outcomes = Exit.isSuccess(exit) ? divide(together, exit.value) : null
      for (const [i, { outcome }] of together.entries()) {
        Deferred.doneUnsafe(outcome, outcomes === null ? exit : Effect.succeed(at(outcomes, i)))
      }
    })
  }

  /** The one that waits longest, and those like it, as many as there are rows for. */
  #take(): ReadonlyArray<PendingStretch<E>> {
    const [first] = this.#waiting
    if (first === undefined) return []
    const together: Array<PendingStretch<E>> = []
    let rows = 0
    for (const asked of this.#waiting) {
      const more = rowsOf(asked)
      if (asked !== first && (rows + more > this.#maxRows || !alike(first.ops, asked.ops))) continue
      together.push(asked)
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
  const [first, second] = [headOf(one), headOf(other)]
  if (first !== undefined && second !== undefined && !sameAnswer(first, second)) return false
  const steps = stepsOf(one)
  if (steps !== stepsOf(other)) return false
  for (let i = 0; i < steps; i++) if (!sameStep(one[i], other[i])) return false
  return true
}

const sameAnswer = (a: Head, b: Head): boolean =>
  a.want === b.want &&
  a.k === b.k &&
  (a.top ?? 0) === (b.top ?? 0) &&
  (a.given === undefined) === (b.given === undefined)

/** A head is the last one. */
const stepsOf = (ops: ReadonlyArray<Op>): number => ops.length - (headOf(ops) === undefined ? 0 : 1)

const sameStep = (a: Op | undefined, b: Op | undefined): boolean => {
  if (a === undefined || b === undefined || a.op !== b.op) return false
  if (a.op === "layers" && b.op === "layers") return a.from === b.from && a.to === b.to
  if (a.op === "attend" && b.op === "attend") return same(a.layers, b.layers) && a.returned === b.returned
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
  const merged = first.ops.slice(0, stepsOf(first.ops)).map((op, i): Op => {
    if (op.op !== "receive") return op
    const hiddens = stretches.map(({ ops }) => ops[i])
    return { op: "receive", hidden: Buffer.concat(hiddens.map((op) => (op?.op === "receive" ? op.hidden : EMPTY))) }
  })
  const head = mergedHead(stretches)
  return head === undefined ? merged : [...merged, head]
}

const EMPTY = new Uint8Array(0)

/** Its rows are those of all the heads, counted through. */
const mergedHead = (stretches: ReadonlyArray<Stretch>): Head | undefined => {
  let head: Head | undefined
  let begin = 0
  const rows: Array<number> = []
  const given: Array<number> = []
  for (const stretch of stretches) {
    const one = headOf(stretch.ops)
    head ??= one
    for (const row of one?.rows ?? []) rows.push(begin + row)
    given.push(...(one?.given ?? []))
    begin += rowsOf(stretch)
  }
  if (head === undefined) return undefined
  const tokens = head.given === undefined ? {} : { given: Int32Array.from(given) }
  return { ...head, rows: Int32Array.from(rows), ...tokens }
}

/** What each stretch gets of the one result. The device's time is shared out by rows. */
export const divide = (stretches: ReadonlyArray<Stretch>, result: StretchResult): ReadonlyArray<StretchResult> => {
  if (stretches.length === 1) return [result]
  const total = stretches.reduce((sum, stretch) => sum + rowsOf(stretch), 0)
  const heads = stretches.reduce((sum, { ops }) => sum + (headOf(ops)?.rows.length ?? 0), 0)
  let row = 0
  let headRow = 0
  return stretches.map((stretch) => {
    const [begin, from] = [row, headRow]
    row += rowsOf(stretch)
    headRow += headOf(stretch.ops)?.rows.length ?? 0
    const end = row
    const to = headRow
    const bytes = (block: Uint8Array) => {
      const each = block.byteLength / total
      return block.subarray(begin * each, end * each)
    }
    const values = <A extends Sliced<A>>(all: A | null): A | null => {
      if (all === null || to === from) return null
      const each = all.length / heads
      return all.subarray(from * each, to * each)
    }
    return {
      hiddens: result.hiddens.map(bytes),
      attended: result.attended.map(bytes),
      tokens: values(result.tokens),
      logProbs: values(result.logProbs),
      topTokens: values(result.topTokens),
      topLogProbs: values(result.topLogProbs),
      logits: values(result.logits),
      micros: (result.micros * (end - begin)) / total,
    }
  })
}

/** An Int32Array or a Float32Array. */
interface Sliced<A> {
  readonly length: number
  subarray(from: number, to: number): A
}

type Head = Extract<Op, { readonly op: "head" }>

const headOf = (ops: ReadonlyArray<Op>): Head | undefined => {
  const last = ops.at(-1)
  return last?.op === "head" ? last : undefined
}

const rowsOf = ({ segments }: Stretch): number => segments.reduce((sum, { tokens }) => sum + tokens.length, 0)

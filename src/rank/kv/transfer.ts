// What the ranks do for a session that moves, whatever carries their messages: the rows that one asks for, those that another
// gives, and which of the messages that come is the one that is waited for. transferOverBus.ts carries them over NATS.
import { Effect, Option, Result } from "effect"
import {
  Assembly,
  encode,
  type KvMessage,
  type KvWish,
  numberOf,
  rowsOfPiece,
  type Send,
  wishes,
} from "../../wire/kv.ts"
import type { Prefill } from "../../wire/pass.ts"
import type { Compute, ComputeFailed } from "../device/compute.ts"

/** How long one piece may take. */
const PIECE_MILLIS = 5_000

/** Wishes are numbered apart from what a rank tells its standby. */
const NUMBERS = 2 ** 31

type Source = Exclude<Prefill["source"], undefined>

/** Gives an empty session the first `committed` tokens' KV that another group has; false where that does not give it. */
export type Fetch = (
  command: Pick<Prefill, "session" | "from" | "committed" | "sampling">,
  source: Source,
) => Effect.Effect<boolean, ComputeFailed>

export interface TransferOptions {
  readonly epoch: number
  readonly group: string
  readonly rank: number
  readonly shard: string // in words: the asker and the giver have the same
  readonly compute: Compute["Service"]
  /** Tells every rank of a group. */
  readonly ask: (source: Source, wish: Uint8Array) => void
  /** Tells the same rank of a group. */
  readonly give: (target: Send["target"], piece: Uint8Array) => void
  readonly maxPayload: () => number
  readonly wishes: number // from where on they are counted: another in each life, so no answer is taken for one to another
}

export interface Transfer {
  /** What another rank wants of this one, to be given when the session is at rest; null where it does not hold it, and has said so. */
  readonly wished: (wish: KvWish) => Send | null
  readonly give: (wish: Send) => Effect.Effect<void>
  /** Something has come. */
  readonly delivered: (message: Uint8Array) => void
  readonly fetch: Fetch
}

export const transfer = (options: TransferOptions): Transfer => {
  const pieces = new Pieces()
  return {
    wished: (wish) => {
      if (wish._tag !== "Send" || wish.rank !== options.rank) return null // the standby's, or another rank's
      if (holds(options, wish)) return wish
      answer(options, wish, null)
      return null
    },
    give: (wish) => give(options, wish),
    delivered: (message) => pieces.deliver(message),
    fetch: fetching(options, pieces),
  }
}

const holds = ({ shard, compute }: TransferOptions, { session, to, ...asked }: Send): boolean =>
  asked.shard === shard && compute.holds(session) && compute.committed(session) >= to

/** Rows of a session to the rank that asks for them, or that there are none. */
const give = (options: TransferOptions, wish: Send): Effect.Effect<void> =>
  Effect.suspend(() =>
    holds(options, wish) ? options.compute.kvExport(wish.session, wish.from, wish.to) : Effect.succeed(null),
  ).pipe(
    Effect.catch(() => Effect.succeed(null)),
    Effect.map((values) => answer(options, wish, values)),
  )

const answer = (
  { rank, give, maxPayload }: TransferOptions,
  { number, session, from, to, sampling, target }: Send,
  values: Uint8Array | null,
): void => {
  const { epoch, group } = target
  const piece = { session, epoch, rank, from, count: to - from }
  const message: KvMessage =
    values === null ? { _tag: "KvLacking", ...piece } : { _tag: "KvDelta", ...piece, group, sampling, values }
  for (const part of encode(message, number, maxPayload())) give(target, part)
}

/** The fibres that wait for the answer to a wish. */
interface Asker {
  readonly wish: Send
  readonly assembly: Assembly // of its parts: those of other answers come in between
  readonly take: (message: KvMessage) => void
}

/** What has come for the askers. */
class Pieces {
  readonly #waiting = new Map<number, Asker>() // by the wish's number
  readonly #whole = new Assembly()

  deliver(message: Uint8Array): void {
    const number = numberOf(message)
    const asker = number === null ? undefined : this.#waiting.get(number)
    if (number !== null && asker === undefined) return // nothing waits for it any more
    const kv = (asker?.assembly ?? this.#whole).deliver(message)
    if (Result.isFailure(kv) || kv.success === null) return
    for (const { wish, take } of asker === undefined ? this.#waiting.values() : [asker]) {
      if (answers(kv.success, wish)) take(kv.success)
    }
  }

  /** The answer to a wish, which `ask` tells once it is waited for. */
  of(wish: Send, ask: () => void): Effect.Effect<KvMessage> {
    const { number } = wish
    return Effect.callback<KvMessage>((resume) => {
      this.#waiting.set(number, { wish, assembly: new Assembly(), take: (kv) => resume(Effect.succeed(kv)) })
      ask()
    }).pipe(Effect.ensuring(Effect.sync(() => this.#waiting.delete(number))))
  }
}

/** Or it is one to an earlier wish. */
const answers = (kv: KvMessage, { session, from, to }: Send): boolean =>
  kv.session === session && kv.from === from && kv.count === to - from

const fetching = ({ epoch, group, rank, shard, compute, ...options }: TransferOptions, pieces: Pieces): Fetch => {
  const target = { epoch, group }
  let asked = options.wishes
  return Effect.fnUntraced(function* ({ session, from: held = session, committed, sampling }, source) {
    const most = rowsOfPiece(compute.bytesOfKvPerToken())
    for (let from = 0; from < committed; from += most) {
      const to = Math.min(committed, from + most)
      const number = NUMBERS + (asked++ % NUMBERS)
      const wish: Send = { _tag: "Send", number, session: held, rank, from, to, shard, sampling, target }
      const answer = pieces.of(wish, () => options.ask(source, wishes.encode(wish)))
      const piece = Option.getOrNull(yield* Effect.timeoutOption(answer, PIECE_MILLIS))
      if (piece?._tag !== "KvDelta") return false
      yield* compute.kvImport(session, piece.values)
    }
    return true
  })
}

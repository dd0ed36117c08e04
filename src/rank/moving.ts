// What the ranks do for a session that moves, whatever carries their messages: the rows that one asks for, those that another
// gives, and which of the messages that come is the one that is waited for. handOver.ts carries them over NATS.
import { Effect, Option, Result, Schedule } from "effect"
import { codec } from "../wire/codec.ts"
import { Assembly, encode, type KvMessage, KvWish, rowsOfPiece, type Send } from "../wire/kv.ts"
import type { Prefill } from "../wire/pass.ts"
import type { Compute, ComputeFailed } from "./compute.ts"

const wishes = codec("KV wish", KvWish)

/** How long one piece may take. */
const PIECE_MILLIS = 5_000

/** The last pass of a session may still be at its end on a rank that does not answer for it. */
const AT_REST = { schedule: Schedule.spaced("20 millis"), times: 10 }

/** Pieces are numbered apart from what a rank tells its standby. */
const FIRST_NUMBER = 2 ** 31

type Source = Exclude<Prefill["source"], undefined>

/** Gives an empty session the first `committed` tokens' KV that another group has; false where that does not give it. */
export type Fetch = (
  command: Pick<Prefill, "session" | "from" | "committed" | "sampling">,
  source: Source,
) => Effect.Effect<boolean, ComputeFailed>

export interface MovingOptions {
  readonly epoch: number
  readonly group: string
  readonly rank: number
  readonly shard: string // in words: who asks and who gives have the same
  readonly compute: Compute["Service"]
  /** Tells every rank of a group. */
  readonly ask: (source: Source, wish: Uint8Array) => void
  /** Tells the same rank of a group. */
  readonly give: (target: Send["target"], piece: Uint8Array) => void
  readonly maxPayload: () => number
}

export interface Moving {
  /** Somebody wants something: gives it, where it is for this rank. */
  readonly wished: (message: Uint8Array) => Effect.Effect<void>
  /** Something has come. */
  readonly delivered: (message: Uint8Array) => void
  readonly fetch: Fetch
}

export const moving = (options: MovingOptions): Moving => {
  const give = giving(options)
  const pieces = new Pieces()
  return {
    wished: (message) => {
      const wish = wishes.decode(message)
      const ours = Result.isSuccess(wish) && wish.success._tag === "Send" && wish.success.rank === options.rank
      return ours ? give(wish.success) : Effect.void
    },
    delivered: (message) => pieces.deliver(message),
    fetch: fetching(options, pieces),
  }
}

/** Rows of a session to the rank that asks for them, or that there are none. */
const giving = ({ rank, shard, compute, give, maxPayload }: MovingOptions) => {
  let number = FIRST_NUMBER
  return Effect.fnUntraced(function* ({ session, from, to, target, sampling, ...asked }: Send) {
    const { epoch, group } = target
    const holds = asked.shard === shard && compute.sessions().includes(session) && compute.committed(session) >= to
    const values = holds
      ? yield* Effect.option(Effect.retry(compute.kvExport(session, from, to), AT_REST))
      : Option.none<Uint8Array>()
    const message: KvMessage = Option.match(values, {
      onNone: () => ({ _tag: "KvLacking", session, epoch, rank }),
      onSome: (values) => ({ _tag: "KvDelta", session, epoch, group, rank, from, count: to - from, sampling, values }),
    })
    for (const piece of encode(message, number++, maxPayload())) give(target, piece)
  })
}

/** What has come for those who asked. */
class Pieces {
  readonly #waiting = new Map<string, (message: KvMessage) => void>() // by session
  readonly #assembly = new Assembly()

  deliver(message: Uint8Array): void {
    const kv = this.#assembly.deliver(message)
    if (Result.isSuccess(kv) && kv.success !== null) this.#waiting.get(kv.success.session)?.(kv.success)
  }

  /** The answer to a wish, which `ask` tells once it is waited for. */
  of(wish: Send, ask: () => void): Effect.Effect<KvMessage> {
    return Effect.callback<KvMessage>((resume) => {
      this.#waiting.set(wish.session, (message) => {
        const other = message._tag === "KvDelta" && message.from !== wish.from // of an earlier question
        if (!other) resume(Effect.succeed(message))
      })
      ask()
    }).pipe(Effect.ensuring(Effect.sync(() => this.#waiting.delete(wish.session))))
  }
}

const fetching = ({ epoch, group, rank, shard, compute, ask }: MovingOptions, pieces: Pieces): Fetch =>
  Effect.fnUntraced(function* ({ session, from: held = session, committed, sampling }, source) {
    const most = rowsOfPiece(compute.bytesOfKvPerToken())
    for (let from = 0; from < committed; from += most) {
      const to = Math.min(committed, from + most)
      const wish: Send = { _tag: "Send", session: held, rank, from, to, shard, sampling, target: { epoch, group } }
      const asked = pieces.of(wish, () => ask(source, wishes.encode(wish)))
      const piece = Option.getOrNull(yield* Effect.timeoutOption(asked, PIECE_MILLIS))
      if (piece?._tag !== "KvDelta") return false
      yield* compute.kvImport(session, piece.values)
    }
    return true
  })

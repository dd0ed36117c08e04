// A session that moves to another group of the same shape: each rank of the one asks the same rank of the other for its rows,
// piece by piece, and imports them. What does not come, or is of another shape, is prefilled as if there were nothing.
import { Effect, Option, Result, Schedule } from "effect"
import { Nats } from "../fabric/nats.ts"
import { codec } from "../wire/codec.ts"
import { Assembly, encode, type KvMessage, KvWish, rowsOfPiece, type Send } from "../wire/kv.ts"
import type { Prefill } from "../wire/pass.ts"
import { groupSubjects } from "../wire/subjects.ts"
import type { Compute, ComputeFailed } from "./compute.ts"

const wishes = codec("KV wish", KvWish)

/** How long one piece may take. */
const PIECE_MILLIS = 5_000

/** The last pass of a session may still be at its end on a rank that does not answer for it. */
const AT_REST = { schedule: Schedule.spaced("20 millis"), times: 10 }

/** Pieces are numbered apart from what a rank tells its standby. */
const FIRST_NUMBER = 2 ** 31

/** Gives an empty session the first `committed` tokens' KV that another group has; false where that does not give it. */
export type Fetch = (
  command: Pick<Prefill, "session" | "from" | "committed" | "sampling">,
  source: Exclude<Prefill["source"], undefined>,
) => Effect.Effect<boolean, ComputeFailed>

export interface HandOverOptions {
  readonly deployment: string
  readonly epoch: number
  readonly group: string
  readonly rank: number
  readonly shard: string // in words: who asks and who gives have the same
  readonly compute: Compute["Service"]
}

/** Gives what other groups ask for, until the scope closes; what is returned asks them. */
export const handOver = Effect.fnUntraced(function* (options: HandOverOptions) {
  const subjects = groupSubjects(options)
  const give = yield* giving(options)
  const runFork = Effect.runForkWith(yield* Effect.context())
  yield* subscribe(subjects.kvWish, (message) => {
    const wish = wishes.decode(message)
    if (Result.isFailure(wish) || wish.success._tag !== "Send") return
    if (wish.success.rank === options.rank) runFork(give(wish.success))
  })
  const pieces = new Pieces()
  yield* subscribe(subjects.kv(options.rank), (message) => pieces.deliver(message))
  return yield* fetching(options, pieces)
})

const subscribe = Effect.fnUntraced(function* (subject: string, hear: (message: Uint8Array) => void) {
  const { connection } = yield* Nats
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      connection.subscribe(subject, { callback: (error, { data }) => (error === null ? hear(data) : undefined) }),
    ),
    (subscription) => Effect.sync(() => subscription.unsubscribe()),
  )
})

/** Rows of a session to the rank that asks for them, or that there are none. */
const giving = Effect.fnUntraced(function* ({ deployment, rank, shard, compute }: HandOverOptions) {
  const { connection } = yield* Nats
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
    if (connection.isClosed()) return
    const subject = groupSubjects({ deployment, epoch, group }).kv(rank)
    const parts = encode(message, number++, connection.info?.max_payload ?? 2 ** 20)
    for (const part of parts) connection.publish(subject, part)
  })
})

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

const fetching = Effect.fnUntraced(function* (options: HandOverOptions, pieces: Pieces) {
  const { connection } = yield* Nats
  const { deployment, rank, shard, compute } = options
  const target = { epoch: options.epoch, group: options.group }
  const fetch: Fetch = Effect.fnUntraced(function* ({ session, from: held = session, committed, sampling }, source) {
    const subject = groupSubjects({ deployment, ...source }).kvWish
    const most = rowsOfPiece(compute.bytesOfKvPerToken())
    for (let from = 0; from < committed; from += most) {
      const to = Math.min(committed, from + most)
      const wish: Send = { _tag: "Send", session: held, rank, from, to, shard, sampling, target }
      const asked = pieces.of(wish, () => connection.publish(subject, wishes.encode(wish)))
      const piece = Option.getOrNull(yield* Effect.timeoutOption(asked, PIECE_MILLIS))
      if (piece?._tag !== "KvDelta") return false
      yield* compute.kvImport(session, piece.values)
    }
    return true
  })
  return fetch
})

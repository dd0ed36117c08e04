// The KV that a standby holds of its group: every session's, by ranks, as it came. Bounded in tokens: the session that has
// not grown for longest goes first. Plain data; standby.ts fills it.
import type { KvDelta } from "../../wire/kv.ts"
import type { Sampling } from "../../wire/pass.ts"

/** Rows [from, to) as they were sent, of which those from `end` on were sent anew later. */
export interface Rows {
  readonly from: number
  readonly end: number
  readonly values: Uint8Array
}

interface HeldSession {
  readonly sampling: Sampling
  readonly ranks: ReadonlyArray<ReadonlyArray<Rows>>
}

export interface Restored {
  readonly session: string
  readonly sampling: Sampling
  readonly rows: ReadonlyArray<Rows>
}

/** A rank's last word of a session may come after the session was freed. */
const FREED = 1024

export class StandbyStore {
  readonly #ranks: number
  readonly #limit: () => number // tokens, of all sessions
  readonly #sessions = new Map<string, HeldSession>() // the one that grew last comes last
  readonly #freed = new Set<string>() // lately

  constructor(ranks: number, limit: () => number) {
    this.#ranks = ranks
    this.#limit = limit
  }

  get sessions(): number {
    return this.#sessions.size
  }

  get bytes(): number {
    return [...this.#sessions.values()]
      .flatMap(({ ranks }) => ranks.flat())
      .reduce((sum, { values }) => sum + values.byteLength, 0)
  }

  /** Takes a delta in; the position from which something is missing before it, or null. */
  add({ session, rank, from, count, sampling, values }: KvDelta): number | null {
    if (from > 0 && this.#freed.has(session)) return null
    this.#freed.delete(session)
    const known = this.#sessions.get(session)
    const ranks = known?.ranks ?? Array.from({ length: this.#ranks }, () => [])
    const before = ranks[rank]
    const opened = sampling ?? known?.sampling
    if (before === undefined) return null
    if (from > lengthOf(before)) return lengthOf(before)
    if (opened === undefined) return 0
    const kept = before.filter((rows) => rows.from < from).map((rows) => ({ ...rows, end: Math.min(rows.end, from) }))
    const added = { from, end: from + count, values: keepable(values) }
    const next = ranks.map((rows, i) => (i === rank ? [...kept, added] : rows))
    this.#sessions.delete(session)
    this.#sessions.set(session, { sampling: opened, ranks: next })
    this.#shrink()
    return null
  }

  free(session: string): void {
    this.#sessions.delete(session)
    this.#freed.add(session)
    for (const oldest of this.#freed) {
      if (this.#freed.size <= FREED) return
      this.#freed.delete(oldest)
    }
  }

  /** What one rank had of every session; the rest is of no use any more. */
  take(rank: number): ReadonlyArray<Restored> {
    const all = [...this.#sessions].map(([session, { sampling, ranks }]) => ({
      ...{ session, sampling, rows: ranks[rank] ?? [] },
    }))
    this.#sessions.clear()
    return all
  }

  #shrink(): void {
    for (const oldest of this.#sessions.keys()) {
      if (this.#sessions.size === 1 || this.#tokens() <= this.#limit()) return
      this.#sessions.delete(oldest)
    }
  }

  #tokens(): number {
    return [...this.#sessions.values()].reduce((sum, { ranks }) => sum + Math.max(...ranks.map(lengthOf)), 0)
  }
}

/** What came as a view of much more is copied, so that it does not keep all of that. */
const keepable = (values: Uint8Array): Uint8Array =>
  values.buffer.byteLength > values.byteLength + VIEWED_BYTES ? new Uint8Array(values) : values

const VIEWED_BYTES = 1024

const lengthOf = (rows: ReadonlyArray<Rows>): number => rows.at(-1)?.end ?? 0

// Which ranks of a group are there, by their beats, and when it is lost for good. Plain data; group.ts tells what it hears, and
// the time.
import { Silence } from "../bus/silence.ts"
import { BEAT_MILLIS, type RankBeat } from "../wire/beat.ts"

/** A rank that misses this many beats is gone. */
const BEATS_MISSED = 4

/** Where a standby may take a lost rank's place, it has done so by then. */
const PATIENCE_MILLIS = 3_000
const PATIENCE = PATIENCE_MILLIS / BEAT_MILLIS

type Beat = Pick<RankBeat, "rank" | "pid" | "connections" | "state">

/** A rank that is missed, and that a standby may replace. */
interface Missed {
  readonly reason: string
  ticks: number // since then
}

export class Attendance {
  readonly #ranks: number
  readonly #standby: () => boolean
  readonly #processes = new Map<number, Pick<RankBeat, "pid" | "connections">>()
  readonly #silence: Silence<number>
  readonly #absent = new Set<number>() // not heard since the connection came back, or since the group was formed anew
  readonly #missed = new Map<number, Missed>()
  #connected = true
  #lost: string | undefined

  /** `standby`: whether there is one now. */
  constructor(ranks: number, standby: () => boolean, now: number) {
    this.#ranks = ranks
    this.#silence = new Silence({ everyMillis: BEAT_MILLIS, missed: BEATS_MISSED }, now)
    this.#standby = standby
  }

  /** Whether every rank that was heard would hear a command now. */
  get gathered(): boolean {
    return this.#connected && this.#absent.size === 0
  }

  /** Why the group is lost; undefined while it is not. */
  get lost(): string | undefined {
    return this.#lost
  }

  /** True where what was asked may not have been heard by all ranks. */
  heard({ rank, pid, connections, state }: Beat): boolean {
    const before = this.#processes.get(rank)
    this.#processes.set(rank, { pid, connections })
    this.#silence.heard(rank)
    // Its host has started it again: quicker than a silence, and without any KV.
    if (before !== undefined && before.pid !== pid) this.#miss(rank, `rank ${rank} has begun anew`)
    const reconnected = before?.pid === pid && before.connections < connections // its connection was lost, unlike ours
    if (state !== "ready" || !this.#absent.delete(rank)) return reconnected
    this.#missed.delete(rank)
    return reconnected || this.#absent.size === 0
  }

  /** True where the connection is back, and what was on the way lost. */
  connection(up: boolean): boolean {
    const back = up && !this.#connected
    if (back) for (const rank of this.#silence.keys) this.#absent.add(rank)
    this.#connected = up
    return back
  }

  /** The group goes on in another epoch, where every rank has to be heard first, and may take as long as that takes. */
  move(): void {
    this.#processes.clear()
    this.#missed.clear()
    for (let rank = 0; rank < this.#ranks; rank++) {
      this.#absent.add(rank)
      this.#silence.heard(rank, -PATIENCE)
    }
  }

  /** One beat's time has passed. */
  tick(now: number): void {
    for (const rank of this.#silence.tick(now, this.#connected)) {
      this.#miss(rank, `rank ${rank} was not heard for ${BEATS_MISSED * BEAT_MILLIS} ms`)
    }
    for (const missed of this.#missed.values()) if (++missed.ticks > PATIENCE) this.#lost ??= missed.reason
  }

  /** The group is lost, unless a standby takes the rank's place in time, or it is back by itself. */
  #miss(rank: number, reason: string): void {
    if (!this.#standby()) {
      this.#lost ??= reason
      return
    }
    this.#absent.add(rank)
    if (!this.#missed.has(rank)) this.#missed.set(rank, { reason, ticks: 0 })
  }
}

// What a rank tells its group's standby: after each pass has been answered, the KV that it has committed, as long as a standby
// says that it listens. Its memory of what was said outlives a change of the group's epoch.
import { Effect } from "effect"
import type { Bus } from "../../bus/bus.ts"
import { encode, type KvWish, rowsOfPiece, WISH_MILLIS } from "../../wire/kv.ts"
import { type PassCommand, type Sampling, sessionsOf } from "../../wire/pass.ts"
import { groupSubjects } from "../../wire/subjects.ts"
import type { Compute } from "../device/compute.ts"

/** A standby that has not said for so long that it listens is gone. */
const WISHES_MISSED = 4

interface Told {
  readonly sampling: Sampling
  readonly length: number // rows that were sent, and are as they were
}

export class StandbyFeed {
  readonly #sessions = new Map<string, Told>()
  #listening = Number.NEGATIVE_INFINITY // when a standby was heard last
  messages = 0
  bytes = 0

  get wanted(): boolean {
    return performance.now() - this.#listening < WISHES_MISSED * WISH_MILLIS
  }

  hear(wish: KvWish, rank: number): void {
    if (wish._tag === "Send") return // another group's, not the standby's
    this.#listening = performance.now()
    if (wish._tag === "Missing" && wish.rank === rank) this.#shorten(wish.session, wish.from)
  }

  /** A command is about to change its sessions. */
  begin(command: PassCommand): void {
    if (command._tag === "Prefill") {
      const { session } = command
      const before = command.from === undefined ? this.#sessions.get(session) : undefined // begun anew with a copy
      this.#sessions.set(session, { sampling: command.sampling, length: before?.length ?? 0 })
    }
    for (const { session, committed } of sessionsOf(command)) this.#shorten(session, committed)
  }

  forget(session: string): void {
    this.#sessions.delete(session)
  }

  /** What is to be sent of a session that is at rest and holds this many rows, at most `most` at a time. */
  next(session: string, committed: number, most: number): (Told & { readonly to: number }) | null {
    const told = this.#sessions.get(session)
    if (told === undefined || committed <= told.length) return null
    return { ...told, to: Math.min(committed, told.length + most) }
  }

  sent(session: string, from: number, to: number, messages: ReadonlyArray<Uint8Array>): void {
    const told = this.#sessions.get(session)
    if (told !== undefined && told.length >= from) this.#sessions.set(session, { ...told, length: to })
    this.messages += messages.length
    this.bytes += messages.reduce((sum, { byteLength }) => sum + byteLength, 0)
  }

  #shorten(session: string, length: number): void {
    const told = this.#sessions.get(session)
    if (told !== undefined && told.length > length) this.#sessions.set(session, { ...told, length })
  }
}

export interface StandbyFeedOptions {
  readonly deployment: string
  readonly epoch: number
  readonly group: string
  readonly rank: number
  readonly compute: Compute["Service"]
  readonly standbyFeed: StandbyFeed
}

/** What is to be done for a session after a pass of it. */
export const tellStandby =
  (bus: Bus["Service"], options: StandbyFeedOptions) =>
  (session: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { compute, standbyFeed } = options
      if (!standbyFeed.wanted || !compute.holds(session)) return Effect.void
      const next = standbyFeed.next(session, compute.committed(session), rowsOfPiece(compute.bytesOfKvPerToken()))
      if (next === null) return Effect.void
      const { length: from, to, sampling } = next
      return compute.kvExport(session, from, to).pipe(
        Effect.map((values) => publish(bus, options, { session, from, count: to - from, sampling, values })),
        Effect.catch(({ message }) =>
          Effect.logWarning(`the KV of ${session} was not sent to the standby: ${message}`),
        ),
      )
    })

const publish = (
  bus: Bus["Service"],
  { standbyFeed, deployment, epoch, group, rank }: StandbyFeedOptions,
  rows: { session: string; from: number; count: number; sampling: Sampling; values: Uint8Array },
): void => {
  const delta = { _tag: "KvDelta", epoch, group, rank, ...rows } as const
  const messages = encode(delta, standbyFeed.messages, bus.maxPayload())
  const subject = groupSubjects({ deployment, epoch, group }).kv(rank)
  for (const message of messages) bus.publish(subject, message)
  standbyFeed.sent(rows.session, rows.from, rows.from + rows.count, messages)
}

// What a rank does about its group's commands and controls: which pass it runs and when, which answer it gives again, and
// what it refuses. One pass of a session at a time, those of different sessions side by side. Plain data: an event in,
// actions out; runner.ts performs them.
import { Cancelled, InvalidRequest, type PassError, WrongEpoch } from "../../wire/errors.ts"
import type { Send } from "../../wire/kv.ts"
import { type GroupControl, type PassAnswer, type PassCommand, sessionsOf } from "../../wire/pass.ts"

/** The newest pass of a session, or of several that run together. */
export interface Lane<Asker> {
  readonly command: PassCommand
  readonly sessions: ReadonlyArray<string>
  readonly askers: Array<Asker> // of the command, and of its repetitions
  answer: PassAnswer | null
}

/** What sessions are at: a pass, or that the KV of one is freed, or given to another group. */
export type Turn<Asker> = Work<Asker> & {
  readonly sessions: ReadonlyArray<string>
  readonly after: Set<Turn<Asker>> // those that have to end before
  stopped: boolean
}

type Work<Asker> =
  | { readonly _tag: "Pass"; readonly lane: Lane<Asker> }
  | { readonly _tag: "Free"; readonly session: string }
  | { readonly _tag: "Give"; readonly wish: Send }

/**
 * In their order. A turn that begins is over at some time, stopped or not, maybe while an action is performed: then `settled`
 * is told for a pass, and `ended` for each turn.
 */
export type QueueAction<Asker> =
  | { readonly _tag: "Open"; readonly lane: Lane<Asker> } // its exchange: what comes for the pass is kept from now on
  | { readonly _tag: "Leave"; readonly lane: Lane<Asker> } // its exchange: a fibre that waits in it is superseded
  | { readonly _tag: "Begin"; readonly turn: Turn<Asker> }
  | { readonly _tag: "Stop"; readonly turn: Turn<Asker> }
  | { readonly _tag: "Answer"; readonly askers: ReadonlyArray<Asker>; readonly answer: PassAnswer }

type Actions<Asker> = ReadonlyArray<QueueAction<Asker>>

/** How a pass ended: with its answer on the leader, and with null elsewhere. */
export type PassOutcome = PassAnswer | null | "stopped"

export interface PassQueueOptions {
  readonly group: string
  readonly rank: number
  readonly epoch: number
  readonly leads: boolean // answers; a rank that does not lead answers only to refuse, and the asker takes the first answer
}

/** How long a session is kept without being mentioned. */
export const TICK_MILLIS = 60_000
const TICKS_UNUSED = 10

export class PassQueue<Asker> {
  readonly #of: PassQueueOptions
  readonly #lanes = new Map<string, Lane<Asker>>()
  readonly #turns = new Map<string, Turn<Asker>>() // a session's last one
  readonly #waiting = new Set<Turn<Asker>>()
  readonly #running = new Set<Turn<Asker>>()
  readonly #unused = new Map<string, number>() // ticks since a session was spoken of
  #abandoned = false

  constructor(of: PassQueueOptions) {
    this.#of = of
  }

  command(command: PassCommand, asker: Asker): Actions<Asker> {
    const { group, rank, epoch, leads } = this.#of
    if (command.epoch !== epoch) {
      const error = new WrongEpoch({ group, rank, expected: epoch, actual: command.epoch })
      return [refuse(asker, command, error)]
    }
    const sessions = sessionsOf(command).map(({ session }) => session)
    for (const session of sessions) this.#unused.delete(session)
    const last = new Set(sessions.flatMap((session) => this.#lanes.get(session) ?? []))
    const [same] = last
    if (same !== undefined && last.size === 1 && repeats(command, same.command)) {
      same.askers.push(asker)
      return same.answer === null ? [] : [{ _tag: "Answer", askers: [asker], answer: same.answer }]
    }
    for (const { command: before } of last) {
      if (compare(command, before) > 0 || begins(command)) continue
      return leads ? [refuse(asker, command, late(command, before))] : []
    }
    const lane: Lane<Asker> = { command, sessions, askers: [asker], answer: null }
    for (const session of sessions) this.#lanes.set(session, lane)
    const leave = [...last].map((lane) => ({ _tag: "Leave", lane }) as const) // may end a pass, so that this one begins
    // The leader is still at the last pass only when nothing waits for its answer. Another rank may have its commit to finish.
    return [{ _tag: "Open", lane }, ...leave, ...this.#take({ _tag: "Pass", lane }, sessions, leads ? "stop" : "wait")]
  }

  control({ _tag, session }: GroupControl): Actions<Asker> {
    const lane = this.#lanes.get(session)
    const alone = lane === undefined || lane.sessions.length === 1
    this.#lanes.delete(session)
    const last = _tag === "Abort" && alone ? "stop" : "wait"
    return [
      // Others' drafts are not stopped for one: its KV is freed when they have ended.
      ...(alone && lane !== undefined ? [{ _tag: "Leave", lane } as const] : []),
      ...this.#take({ _tag: "Free", session }, [session], last),
    ]
  }

  /** Between two passes: the asker may not know yet that the session goes on here after all. */
  give(wish: Send): Actions<Asker> {
    return this.#take({ _tag: "Give", wish }, [wish.session], "wait")
  }

  /** A pass has come to its end; its session is still at it. */
  settled(lane: Lane<Asker>, outcome: PassOutcome): Actions<Asker> {
    const answer = outcome === "stopped" ? (this.#of.leads ? cancelled(lane) : null) : outcome
    if (answer === null || this.#abandoned) return []
    lane.answer = answer
    return [{ _tag: "Answer", askers: lane.askers, answer }]
  }

  /** `holds`: whether the rank has KV of a session, so that a repetition of its last pass can still be answered. */
  ended(turn: Turn<Asker>, holds: (session: string) => boolean): Actions<Asker> {
    this.#running.delete(turn)
    for (const session of turn.sessions) {
      if (this.#turns.get(session) === turn) this.#turns.delete(session)
      if (turn._tag === "Pass" && this.#lanes.get(session) === turn.lane && !holds(session)) this.#lanes.delete(session)
    }
    const next = [...this.#waiting].filter(({ after }) => after.delete(turn) && after.size === 0)
    const begun = next.flatMap((waiting) => {
      this.#waiting.delete(waiting)
      if (waiting._tag !== "Pass" || !waiting.stopped) return this.#begin(waiting)
      return [...this.settled(waiting.lane, "stopped"), ...this.ended(waiting, holds)]
    })
    return [...begun, ...(turn._tag === "Pass" ? [{ _tag: "Leave", lane: turn.lane } as const] : [])]
  }

  /** The group goes on in another epoch, where it is asked for again: every pass is stopped without an answer. */
  abandon(): Actions<Asker> {
    this.#abandoned = true
    const leave = [...new Set(this.#lanes.values())].map((lane) => ({ _tag: "Leave", lane }) as const)
    return [...leave, ...[...this.#running, ...this.#waiting].flatMap((turn) => this.#stop(turn))]
  }

  /**
   * What was published over a connection that was down, no process has heard, and what was heard is no longer waited for.
   * A Release may have been missed here as well: a session that is held has to be mentioned soon.
   */
  reconnected(held: ReadonlyArray<string>): Actions<Asker> {
    for (const session of held) this.#unused.set(session, TICKS_UNUSED - 1)
    return [...new Set(this.#lanes.values())].flatMap(({ askers, answer }) =>
      answer === null ? [] : [{ _tag: "Answer", askers, answer } as const],
    )
  }

  /**
   * Some time has passed. A session that is no longer mentioned is freed, in case its Release was not heard here; a
   * supervisor that needs it after all fills it in again.
   */
  tick(held: ReadonlyArray<string>): Actions<Asker> {
    for (const session of this.#unused.keys()) if (!held.includes(session)) this.#unused.delete(session)
    return held.flatMap((session) => {
      const unused = this.#turns.has(session) ? 0 : (this.#unused.get(session) ?? 0) + 1
      this.#unused.set(session, unused)
      return unused > TICKS_UNUSED ? this.control({ _tag: "Release", session }) : []
    })
  }

  /** Gives sessions their next turn, which begins when their last ones have ended. */
  #take(work: Work<Asker>, sessions: ReadonlyArray<string>, last: "stop" | "wait"): Actions<Asker> {
    const before = sessions.flatMap((session) => this.#turns.get(session) ?? [])
    const turn: Turn<Asker> = { ...work, sessions, after: new Set(before), stopped: false }
    for (const session of sessions) this.#turns.set(session, turn)
    if (turn.after.size === 0) return this.#begin(turn)
    this.#waiting.add(turn)
    return last === "stop" ? [...turn.after].flatMap((before) => this.#stop(before)) : []
  }

  /** A turn that waits ends when it would begin: whatever becomes of it, the next one finds its sessions at rest. */
  #stop(turn: Turn<Asker>): Actions<Asker> {
    if (turn._tag === "Give") return [...turn.after].flatMap((before) => this.#stop(before))
    if (turn.stopped || turn._tag === "Free") return []
    turn.stopped = true
    return this.#waiting.has(turn) ? [] : [{ _tag: "Stop", turn }]
  }

  #begin(turn: Turn<Asker>): Actions<Asker> {
    this.#running.add(turn)
    return [{ _tag: "Begin", turn }]
  }
}

export const refused = (pass: number, error: PassError): PassAnswer => ({ _tag: "Refused", pass, error })

const refuse = <Asker>(asker: Asker, { pass }: PassCommand, error: PassError): QueueAction<Asker> => ({
  _tag: "Answer",
  askers: [asker],
  answer: refused(pass, error),
})

const cancelled = ({ command, sessions: [session = ""] }: Lane<unknown>): PassAnswer =>
  refused(command.pass, new Cancelled({ session }))

type Numbered = Pick<PassCommand, "pass" | "attempt">

/** Whether a command is the same as the one before, asked for again. */
const repeats = (command: PassCommand, before: PassCommand): boolean =>
  command._tag === before._tag && compare(command, before) === 0

/** Above 0 where `a` is newer than `b`. */
const compare = (a: Numbered, b: Numbered): number => a.pass - b.pass || a.attempt - b.attempt

/** Whether a command begins its session anew, so that what was before does not count. */
const begins = (command: PassCommand): boolean =>
  command._tag === "Prefill" && (command.committed === 0 || command.from !== undefined)

const late = (command: Numbered, last: Numbered) =>
  new InvalidRequest({
    field: "pass",
    reason: `is ${command.pass}, attempt ${command.attempt}; the session is at ${last.pass}, attempt ${last.attempt}`,
  })

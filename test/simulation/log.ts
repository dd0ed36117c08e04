// The simulated JetStream stream of token logs: expected sequences, message ids that are known for a while, an
// acknowledgement that may be lost, and a tail that may be. With three copies an entry is proposed first: until it is applied,
// another write to its log is refused, and a repetition of it is told to wait; and a server that is not the leader may read an
// older log.
import { Effect, Schedule } from "effect"
import { appendTo, LogFailed } from "../../src/store/append.ts"
import type { Logged, TokenLog } from "../../src/store/tokenLog.ts"
import type { LogEntry } from "../../src/wire/infer.ts"
import type { Mutation } from "./mutation.ts"
import type { Answered, Network } from "./network.ts"
import { done, Proposals } from "./proposals.ts"
import type { Process, World } from "./world.ts"

interface Stored extends Logged {
  readonly session: string
  readonly id: string
  readonly at: number // when
}

export interface LogServerOptions {
  readonly duplicatesFirst: boolean // a repetition is a duplicate, whatever sequence it expects, as to nats-server 2.9
  readonly copies: 1 | 3
  readonly mutation: Mutation | null
}

export class LogServer {
  readonly #world: World
  readonly #of: LogServerOptions
  readonly #proposals: Proposals
  #entries: Array<Stored> = []
  #last = 0

  constructor(world: World, of: LogServerOptions) {
    this.#world = world
    this.#of = of
    this.#proposals = new Proposals(world)
  }

  /** Gives the answer to each question when it is known. `millis`: what the disk, or the copies, take. */
  publish({ session, entry, id, after }: Publication, millis: number): Answered<number | "wrong sequence" | "wait"> {
    const { copies, duplicatesFirst } = this.#of
    const known = duplicatesFirst || copies > 1 ? this.#entries.find((stored) => stored.id === id) : undefined
    if (known !== undefined) return { answer: () => known.sequence, millis }
    if (this.#proposals.holder(session) === id) return { answer: () => "wait", millis }
    if (this.#proposals.holder(session) !== undefined || !this.#fits(session, after)) {
      this.#world.note(() => `log ${session} refuses ${id} after #${after}`)
      return { answer: () => "wrong sequence", millis }
    }
    if (copies === 1) return done(this.#store(session, entry, id), millis)
    return this.#proposals.propose(session, id, millis, () => this.#store(session, entry, id))
  }

  #fits(session: string, after: number): boolean {
    const any = this.#of.mutation === "the log takes an entry whatever sequence it expects"
    return any || (this.last(session)?.sequence ?? 0) === after
  }

  #store(session: string, entry: LogEntry, id: string): number {
    this.#last++
    this.#entries.push({ session, entry, id, sequence: this.#last, at: this.#world.now })
    this.#world.note(() => `log ${session} #${this.#last}: ${entry._tag} of epoch ${entry.epoch} at ${entry.at}`)
    return this.#last
  }

  /** How long ago it began. */
  age(session: string): number {
    const [first] = this.read(session)
    return first === undefined ? 0 : this.#world.now - first.at
  }

  last(session: string): Stored | undefined {
    return this.#entries.findLast((stored) => stored.session === session)
  }

  read(session: string, after = 0): ReadonlyArray<Stored> {
    return this.#entries.filter((stored) => stored.session === session && stored.sequence > after)
  }

  /** As any of the servers has it. */
  readAnywhere(session: string): ReadonlyArray<Stored> {
    const behind = this.#of.copies > 1 && this.#world.random.chance(BEHIND) ? BEHIND_MILLIS : 0
    return this.read(session).filter(({ at }) => at <= this.#world.now - behind)
  }

  /**
   * The server has died before its newest entries were on its disk. Those of a session that has ended would not be
   * written again, so its end is taken to be on the disk, and all that is before it.
   */
  loseTail(entries: number): void {
    const ended = this.#entries.findLastIndex(({ entry }) => entry._tag === "End") + 1
    const lost = this.#entries.splice(Math.max(ended, this.#entries.length - entries))
    this.#last -= lost.length
    for (const { session, sequence } of lost) this.#world.note(() => `log ${session} #${sequence} is lost`)
  }
}

/** How often a server that is asked is not the leader, and has not applied the newest entries. */
const BEHIND = 0.2
const BEHIND_MILLIS = 50

export interface Publication {
  readonly session: string
  readonly entry: LogEntry
  readonly id: string
  readonly after: number
}

const subjectOf = (session: string): string => `tokens.${session}`

export interface LogClientOptions {
  readonly process: Process
  readonly network: Network
  readonly server: LogServer
  readonly diskMillis: () => number
  readonly mutation: Mutation | null
}

/** The product's appends, on this server. */
export const logOf = ({ process, network, server, diskMillis, mutation }: LogClientOptions): TokenLog["Service"] => {
  let appends = 0
  const ask = <A>(session: string, serve: () => A, millis = () => 0) =>
    Effect.mapError(
      network.call(process, serve, millis),
      () => new LogFailed({ subject: subjectOf(session), reason: "no answer" }),
    )
  const careless = mutation === "an owner does not look whether it still is the owner"
  const seen = (logged: Logged): Logged => (careless ? { ...logged, entry: { ...logged.entry, epoch: 1 } } : logged)
  return {
    age: (session) => ask(session, () => server.age(session)),
    append: (session, entry, after) =>
      appendTo(
        {
          subject: subjectOf(session),
          publish: ({ entry, after, id }) =>
            Effect.flatMap(
              network.callSlowly(process, () => server.publish({ session, entry, id, after }, diskMillis())),
              (answer) => (answer === "wait" ? Effect.fail("lost" as const) : Effect.succeed(answer)),
            ).pipe(Effect.mapError(() => new LogFailed({ subject: subjectOf(session), reason: "no answer" }))),
          last: ask(session, () => server.last(session) ?? null),
        },
        { entry, after, id: `${process.pid}.${appends++}` },
      ),
    read: (session) =>
      ask(session, () => server.readAnywhere(session).map(seen)).pipe(
        Effect.retry({ times: 50, schedule: Schedule.spaced("100 millis") }),
      ),
  }
}

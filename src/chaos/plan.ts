// The plan of a chaos run: which fault, when, at which process, for how long. A pure function of the seed, so what went wrong
// once can be repeated.
import { Effect, Random } from "effect"

/** What may be struck: the processes of an installation, and its NATS servers. */
export type Role = "rank" | "host" | "supervisor" | "gateway" | "server" | "client"

export type ChaosAction =
  | "kill" // SIGKILL
  | "freeze" // SIGSTOP, and SIGCONT after a while
  | "restart" // of a nats-server: SIGTERM, and started again
  | "fill" // the disk of a nats-server
  | "starve" // its memory: no more address space than it has
  | "advance" // its wall clock, by an hour
  | "retard" // its wall clock, by an hour
  | "delay" // its connection to NATS, each way
  | "cut" // its connection to NATS, which it may make again at once
  | "swallow" // what its connection carries, though it stands: half open
  | "throttle" // its connection, to some kilobytes a second

interface Kind {
  readonly action: ChaosAction
  readonly role: Role
  readonly cards: number // how many of a deck: how often it comes
  readonly lasts: readonly [number, number] // milliseconds, from and to
}

const AT_ONCE = [0, 0] as const

/** The deck: what it holds comes once each deck, in an order of the seed. */
const KINDS: ReadonlyArray<Kind> = [
  { action: "kill", role: "rank", cards: 6, lasts: AT_ONCE },
  { action: "freeze", role: "rank", cards: 3, lasts: [300, 4_000] },
  { action: "starve", role: "rank", cards: 1, lasts: [500, 2_000] },
  { action: "advance", role: "rank", cards: 1, lasts: AT_ONCE },
  { action: "kill", role: "host", cards: 2, lasts: AT_ONCE },
  { action: "freeze", role: "host", cards: 1, lasts: [300, 4_000] },
  { action: "retard", role: "host", cards: 1, lasts: AT_ONCE },
  { action: "kill", role: "supervisor", cards: 3, lasts: AT_ONCE },
  { action: "freeze", role: "supervisor", cards: 1, lasts: [300, 5_000] },
  { action: "advance", role: "supervisor", cards: 1, lasts: AT_ONCE },
  { action: "retard", role: "supervisor", cards: 1, lasts: AT_ONCE },
  { action: "kill", role: "gateway", cards: 2, lasts: AT_ONCE },
  { action: "freeze", role: "gateway", cards: 1, lasts: [300, 4_000] },
  { action: "kill", role: "server", cards: 2, lasts: AT_ONCE },
  { action: "restart", role: "server", cards: 2, lasts: AT_ONCE },
  { action: "freeze", role: "server", cards: 1, lasts: [300, 6_000] },
  { action: "fill", role: "server", cards: 1, lasts: [500, 2_000] },
  { action: "delay", role: "rank", cards: 2, lasts: [300, 2_000] },
  { action: "cut", role: "rank", cards: 2, lasts: AT_ONCE },
  { action: "swallow", role: "rank", cards: 2, lasts: [300, 4_000] },
  { action: "throttle", role: "rank", cards: 1, lasts: [300, 2_000] },
  { action: "cut", role: "host", cards: 1, lasts: AT_ONCE }, // with all its ranks
  { action: "swallow", role: "host", cards: 1, lasts: [300, 4_000] },
  { action: "delay", role: "supervisor", cards: 1, lasts: [300, 2_000] },
  { action: "cut", role: "supervisor", cards: 1, lasts: AT_ONCE },
  { action: "swallow", role: "supervisor", cards: 1, lasts: [300, 4_000] },
  { action: "throttle", role: "supervisor", cards: 1, lasts: [300, 2_000] },
  { action: "cut", role: "gateway", cards: 1, lasts: AT_ONCE },
  { action: "swallow", role: "gateway", cards: 1, lasts: [300, 4_000] },
  { action: "cut", role: "client", cards: 1, lasts: AT_ONCE },
  { action: "delay", role: "client", cards: 1, lasts: [300, 2_000] },
]

export interface Fault {
  readonly number: number // from 1
  readonly action: ChaosAction
  readonly role: Role
  /** Which of the role's: the one at this place among those that are there, in their order, counted round. */
  readonly which: number
  readonly pauseMillis: number // after the fault before it
  readonly lastsMillis: number
  /** Whether everything has to be whole before it. Otherwise it may meet what the one before has left. */
  readonly alone: boolean
}

export const kindOf = ({ action, role }: Pick<Fault, "action" | "role">): string => `${action} ${role}`

export interface PlanOptions {
  readonly seed: number
  readonly faults: number
  readonly without: ReadonlyArray<string> // kinds that cannot be had here
}

const ALONE = 0.6
const LONGEST_PAUSE_MILLIS = 1_000
const MOST_OF_A_ROLE = 1_000

export const planOf = ({ seed, faults, without }: PlanOptions): ReadonlyArray<Fault> => {
  const cards = KINDS.filter((kind) => !without.includes(kindOf(kind))).flatMap((kind) =>
    Array.from({ length: kind.cards }, () => kind),
  )
  // A whole deck at a time, so that a longer plan begins as a shorter one.
  const planning = Effect.gen(function* () {
    const planned: Array<Fault> = []
    while (planned.length < faults) {
      for (const kind of yield* Random.shuffle(cards)) {
        planned.push(yield* faultOf(planned.length + 1, kind, planned.at(-1)))
      }
    }
    return planned.slice(0, faults)
  })
  return Effect.runSync(Random.withSeed(planning, seed))
}

const faultOf = Effect.fnUntraced(function* (number: number, { action, role, lasts }: Kind, before: Fault | undefined) {
  const [least, most] = lasts
  const fault: Fault = {
    ...{ number, action, role },
    which: yield* Random.nextIntBetween(0, MOST_OF_A_ROLE),
    pauseMillis: yield* Random.nextIntBetween(0, LONGEST_PAUSE_MILLIS),
    lastsMillis: yield* Random.nextIntBetween(least, most),
    alone:
      (yield* Random.next) < ALONE || number === 1 || (isLast(role) && before !== undefined && isLast(before.role)),
  }
  return fault
})

/** Of these there must be one left, or nothing can go on: two of them are not struck at once. */
const isLast = (role: Role): boolean => role === "host" || role === "server" || role === "supervisor"

/** "kill rank 17 after 250 ms", as the plan is printed. */
export const lineOf = ({ number, action, role, which, pauseMillis, lastsMillis, alone }: Fault): string => {
  const when = `${alone ? "when all is whole, " : ""}after ${pauseMillis} ms`
  return `${number}. ${when}: ${action} ${role} #${which}${lastsMillis === 0 ? "" : ` for ${lastsMillis} ms`}`
}

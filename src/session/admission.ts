// Which session may begin, which waits, which is refused. Memory for a session's KV, prompt and answer, is set aside before it begins,
// so nothing that was accepted fails for want of memory. What ended sessions have left (prefixCache.ts) gives way, and does not
// count here. Plain immutable data; admissionQueue.ts runs it.

export interface Limits {
  readonly kvTokens: number // for all sessions together
  readonly queue: number // that may wait
  readonly clientSessions: number | null // of one client, those that wait included; null: as many as it likes
}

export interface Asking {
  readonly session: string
  readonly client: string | null // null: limits of each client do not apply
  readonly tokens: number // prompt and answer at most
}

export interface Admission {
  readonly limits: Limits
  readonly running: ReadonlyMap<string, Asking>
  readonly waiting: ReadonlyArray<Asking> // the first is next, and none overtakes it
  readonly pace: Pace
}

/** How fast sessions end: what a retry hint goes by. */
interface Pace {
  readonly lastAt: number | null // millis, by the caller's clock
  readonly betweenMillis: number
}

export type AdmissionEvent =
  | { readonly _tag: "Asked"; readonly asking: Asking }
  | { readonly _tag: "TakenOver"; readonly asking: Asking } // it was accepted by another supervisor
  | { readonly _tag: "Ended"; readonly session: string; readonly now: number }
  | { readonly _tag: "Limited"; readonly limits: Limits }

export type AdmissionAction =
  | { readonly _tag: "Begin"; readonly session: string }
  | { readonly _tag: "TooLarge"; readonly session: string }
  | {
      readonly _tag: "Overloaded"
      readonly session: string
      readonly waiting: number
      readonly retryAfterMillis: number
    }
  | {
      readonly _tag: "ClientLimited"
      readonly session: string
      readonly client: string
      readonly limit: number
      readonly retryAfterMillis: number
    }

type Decision = readonly [Admission, ReadonlyArray<AdmissionAction>]

const FIRST_GUESS_MILLIS = 1_000
const LEAST_MILLIS = 100
const MOST_MILLIS = 60_000
const MEMORY = 0.8 // of the pace, when the next session ends

export const empty = (limits: Limits): Admission => ({
  limits,
  running: new Map(),
  waiting: [],
  pace: { lastAt: null, betweenMillis: FIRST_GUESS_MILLIS },
})

/** What happened, and what is to be done about it. */
export const decide = (state: Admission, event: AdmissionEvent): Decision => {
  switch (event._tag) {
    case "Asked":
      return asked(state, event.asking)
    case "TakenOver": // it is next: it has waited before
      return fill({ ...state, waiting: [event.asking, ...state.waiting] })
    case "Ended":
      return fill(ended(state, event.session, event.now))
    case "Limited":
      return fill({ ...state, limits: event.limits })
  }
}

export const reservedTokens = ({ running }: Admission): number => sum([...running.values()])

const asked = (state: Admission, asking: Asking): Decision => {
  const { limits, running, waiting } = state
  const { session, client } = asking
  const retryAfterMillis = patience(state)
  if (asking.tokens > limits.kvTokens) return [state, [{ _tag: "TooLarge", session }]]
  const limit = limits.clientSessions
  const ofClient = [...running.values(), ...waiting].filter((other) => other.client === client).length
  if (client !== null && limit !== null && ofClient >= limit) {
    return [state, [{ _tag: "ClientLimited", session, client, limit, retryAfterMillis }]]
  }
  const fits = waiting.length === 0 && reservedTokens(state) + asking.tokens <= limits.kvTokens
  if (!fits && waiting.length >= limits.queue) {
    return [state, [{ _tag: "Overloaded", session, waiting: waiting.length, retryAfterMillis }]]
  }
  return fill({ ...state, waiting: [...waiting, asking] })
}

/** One that ran or waited has ended. */
const ended = (state: Admission, session: string, now: number): Admission => {
  if (!state.running.has(session)) return { ...state, waiting: without(state.waiting, session) }
  const running = new Map(state.running)
  running.delete(session)
  return { ...state, running, pace: paceAfter(state.pace, now) }
}

/** Begins those that wait, as far as the memory goes. */
const fill = (state: Admission): Decision => {
  const actions: Array<AdmissionAction> = []
  const running = new Map(state.running)
  let waiting = state.waiting
  let reserved = reservedTokens(state)
  for (const next of state.waiting) {
    // One that the limits have become too small for is not dropped: it runs alone.
    if (reserved + next.tokens > state.limits.kvTokens && running.size > 0) break
    waiting = waiting.slice(1)
    running.set(next.session, next)
    reserved += next.tokens
    actions.push({ _tag: "Begin", session: next.session })
  }
  return [{ ...state, running, waiting }, actions]
}

/** When there may be room for one more: those before it have to have begun. */
const patience = ({ pace, waiting }: Admission): number =>
  Math.round(Math.min(MOST_MILLIS, Math.max(LEAST_MILLIS, pace.betweenMillis * (waiting.length + 1))))

const paceAfter = ({ lastAt, betweenMillis }: Pace, now: number): Pace => {
  if (lastAt === null) return { lastAt: now, betweenMillis }
  const between = Math.max(0, now - lastAt)
  return { lastAt: now, betweenMillis: MEMORY * betweenMillis + (1 - MEMORY) * between }
}

const without = <A extends { readonly session: string }>(all: ReadonlyArray<A>, session: string): ReadonlyArray<A> =>
  all.filter((one) => one.session !== session)

const sum = (all: ReadonlyArray<{ readonly tokens: number }>): number =>
  all.reduce((sum, { tokens }) => sum + tokens, 0)

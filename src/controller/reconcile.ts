// What the controller does next for one deployment: from what is wanted and what is there to one step, or none. A pure function,
// asked again after each step, so a controller that takes over goes on where it finds things.
import { Equal } from "effect"
import { type GroupName, groupsOf, ranksPart, type StoredDeployment } from "../wire/deployment.ts"
import type { Replica, Replicas, Standby } from "../wire/replicas.ts"

/** What the beats say of a replica's ranks. */
export type Health =
  | { readonly _tag: "Starting" }
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Unstarted" } // placed, but its hosts know nothing of it
  | { readonly _tag: "Leaving"; readonly limitMillis: number } // a host of it drains; sessions have so long
  | { readonly _tag: "Lost"; readonly ranks: ReadonlyArray<LostRank> } // and a standby is ready for each of them
  | { readonly _tag: "Gone"; readonly reason: string } // with its host, which is no fault of the rank
  | { readonly _tag: "Failed"; readonly reason: string }

/** A rank whose process is lost. */
export interface LostRank {
  readonly group: GroupName
  readonly rank: number
}

/** What the beats say of a replica's standby. */
export type StandbyHealth = "starting" | "ready" | "unstarted" | "lost"

export interface Situation {
  readonly stored: StoredDeployment | null // null: removed
  readonly record: Replicas
  readonly load: number // sessions that run or wait, at all supervisors
  readonly peak: number // the highest load of the idle time
  readonly sessions: (epoch: number) => number
  readonly health: (replica: Replica) => Health
  readonly standbyHealth: (replica: Replica, standby: Standby) => StandbyHealth
  /** Whether a place for a group's standby was not sought in vain just now. */
  readonly hopeful: (epoch: number, group: Standby["group"]) => boolean
  readonly now: number
}

export type Step =
  | { readonly _tag: "None" }
  | { readonly _tag: "Add" }
  | { readonly _tag: "Start" | "Ready" | "Drain" | "Revive"; readonly epoch: number }
  | { readonly _tag: "Drop"; readonly epoch: number; readonly failure: string | null }
  | { readonly _tag: "TakeOver"; readonly epoch: number; readonly ranks: ReadonlyArray<LostRank> }
  | { readonly _tag: "StandBy"; readonly epoch: number; readonly group: Standby["group"] }
  | { readonly _tag: "Dismiss"; readonly epoch: number; readonly standby: Standby }

/** A session that was begun in the moment of the drain is seen by then. */
const SETTLE_MILLIS = 750

const PAUSE_MILLIS = 500
const LONGEST_PAUSE_MILLIS = 30_000

export const nextStep = (situation: Situation): Step => {
  const { stored, record } = situation
  return (
    first(record.replicas, (replica) => stepOf(situation, replica)) ??
    (stored === null ? undefined : scale(situation, stored)) ??
    first(record.replicas, (replica) => standbyStep(situation, replica)) ?? { _tag: "None" }
  )
}

/** What a replica's own state asks for. */
const stepOf = ({ stored, record, sessions, health, now }: Situation, replica: Replica): Step | undefined => {
  const { epoch, state, since } = replica
  const found = health(replica)
  if (found._tag === "Lost") return { _tag: "TakeOver", epoch, ranks: found.ranks }
  if (found._tag === "Gone") return { _tag: "Drop", epoch, failure: null }
  if (found._tag === "Failed") return { _tag: "Drop", epoch, failure: state === "activating" ? found.reason : null }
  if (state === "draining") {
    const ended = sessions(epoch) === 0 && passed(since, now) >= SETTLE_MILLIS
    const over =
      ended || (found._tag === "Leaving" && passed(since, now) >= found.limitMillis && isSucceeded(stored, record))
    return over ? { _tag: "Drop", epoch, failure: null } : undefined
  }
  if (stored === null || found._tag === "Leaving") return { _tag: "Drain", epoch }
  if (!isCurrent(stored, replica)) {
    // A successor that is ready first, so that no session waits for it; but one that no session waits for is not kept.
    return isSucceeded(stored, record) || stored.replicas.min === 0 ? { _tag: "Drain", epoch } : undefined
  }
  if (found._tag === "Unstarted") return { _tag: "Start", epoch }
  return state === "activating" && found._tag === "Ready" ? { _tag: "Ready", epoch } : undefined
}

/** A standby of each group, once the replica serves: no session waits for it. */
const standbyStep = (situation: Situation, replica: Replica): Step | undefined => {
  const { stored, health, standbyHealth, hopeful } = situation
  const { epoch, state, standbys, deployment } = replica
  const wanted = (stored?.standby ?? 0) > 0
  for (const standby of standbys) {
    const found = standbyHealth(replica, standby)
    if (found === "lost" || !wanted) return { _tag: "Dismiss", epoch, standby }
    if (found === "unstarted") return { _tag: "Start", epoch }
  }
  if (!wanted || state !== "ready" || health(replica)._tag !== "Ready") return undefined
  const bare = groupsOf(deployment).find(
    ({ name }) => !standbys.some(({ group }) => group === name) && hopeful(epoch, name),
  )
  return bare === undefined ? undefined : { _tag: "StandBy", epoch, group: bare.name }
}

const scale = (situation: Situation, stored: StoredDeployment): Step | undefined => {
  const { record, load, peak, sessions, health, now } = situation
  const ours = record.replicas.filter((replica) => isCurrent(stored, replica))
  const serving = ours.filter(({ state }) => state !== "draining")
  if (serving.length < wanted(stored, load)) {
    const draining = ours.find((one) => one.state === "draining" && health(one)._tag === "Ready")
    if (draining !== undefined) return { _tag: "Revive", epoch: draining.epoch }
    return record.failure === null || passed(record.failure.at, now) >= pauseAfter(record.failure.count)
      ? { _tag: "Add" }
      : undefined
  }
  if (serving.length <= wanted(stored, Math.max(load, peak))) return undefined
  const [idlest] = serving
    .filter(({ state }) => state === "ready")
    .sort((a, b) => sessions(a.epoch) - sessions(b.epoch) || b.epoch - a.epoch)
  return idlest === undefined ? undefined : { _tag: "Drain", epoch: idlest.epoch }
}

/** How many replicas a load is worth. */
export const wanted = (
  { replicas: { min, max, sessions }, idleTimeoutMillis }: StoredDeployment,
  load: number,
): number => Math.min(max, Math.max(min, idleTimeoutMillis === null ? 1 : 0, Math.ceil(load / sessions)))

/**
 * Milliseconds since a time that a controller has written. One that is still to come was written by a clock that has been set
 * since, or by that of another machine: it is not waited for.
 */
export const passed = (at: number, now: number): number => (now >= at ? now - at : Number.POSITIVE_INFINITY)

const pauseAfter = (failures: number): number => Math.min(LONGEST_PAUSE_MILLIS, PAUSE_MILLIS * 2 ** failures)

/** Whether a replica's ranks run what the deployment says now. */
const isCurrent = (stored: StoredDeployment, { deployment }: Replica): boolean =>
  Equal.equals(ranksPart(stored), deployment)

/** Whether sessions may go on elsewhere. */
const isSucceeded = (stored: StoredDeployment | null, { replicas }: Replicas): boolean =>
  stored !== null && replicas.some((one) => one.state === "ready" && isCurrent(stored, one))

const first = <A, B>(all: ReadonlyArray<A>, use: (one: A) => B | undefined): B | undefined => {
  for (const one of all) {
    const found = use(one)
    if (found !== undefined) return found
  }
  return undefined
}

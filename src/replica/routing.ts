// Which replica a session gets. Plain data: replicaSet.ts has it of what it follows.

/** A replica, as far as it counts here. */
export interface Choice {
  readonly epoch: number
  readonly draining: boolean // no new sessions
  readonly models: object | null // null while its ranks are not ready
  readonly reserved: number // tokens that its sessions may come to
  readonly load: () => number // sessions of all supervisors, as far as is known
  readonly shared: (prompt: ReadonlyArray<number>) => number // tokens whose KV an ended session has left there
}

export interface Wanted<R> {
  readonly prompt: ReadonlyArray<number>
  readonly tokens: number // that the session may come to
  readonly own: R | null // where it was before
  readonly current: boolean // whether the deployment is still to be served as it is
}

/** How many sessions more than elsewhere may run on a replica for the sake of a prefix that it keeps. */
const WORTH = 2

/**
 * Of those with room for this many tokens the one that has most of the prompt's KV, unless it is far busier than others, and of
 * equals the least loaded; one that is longer than all of it runs alone. One that drains goes on
 * for sessions that were on it before, and for one that was accepted while the deployment changed: for them no other comes.
 */
export const chooseReplica = <R extends Choice>(
  replicas: Iterable<R>,
  { prompt, tokens, own, current }: Wanted<R>,
  share: (replica: R) => number, // of its memory, in tokens
): R | undefined => {
  const fitting = [...replicas]
    .filter((replica) => !replica.draining || replica === own || !current)
    .filter((replica) => replica.models !== null)
    .filter((replica) => replica.reserved === 0 || replica.reserved + tokens <= share(replica))
    .map((replica) => ({ replica, load: replica.load() }))
  if (fitting.length <= 1) return fitting[0]?.replica
  const least = Math.min(...fitting.map(({ load }) => load))
  return fitting
    .map(({ replica, load }) => ({ replica, load, found: load <= least + WORTH ? replica.shared(prompt) : 0 }))
    .sort(
      (a, b) =>
        Number(a.replica.draining) - Number(b.replica.draining) ||
        b.found - a.found ||
        a.load - b.load ||
        a.replica.epoch - b.replica.epoch,
    )[0]?.replica
}

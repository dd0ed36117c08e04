// Which replica a session gets. Plain data: replicaSet.ts has it of what it follows.

/** A replica, as far as it counts here. */
export interface Choice {
  readonly epoch: number
  readonly draining: boolean // no new sessions
  readonly models: object | null // null while its ranks are not ready
  readonly reserved: number // tokens that its sessions may come to
  readonly load: () => number // sessions of all supervisors, as far as is known
}

export interface Wanted<R> {
  readonly tokens: number // that the session may come to
  readonly own: R | null // where it was before
  readonly current: boolean // whether the deployment is still to be served as it is
}

/**
 * The least loaded with room for so many tokens; one that is longer than all of it runs alone. One that drains goes on for
 * whoever was on it before, and for who was accepted in the moment in which the deployment changed: for them no other comes.
 */
export const leastLoaded = <R extends Choice>(
  replicas: Iterable<R>,
  { tokens, own, current }: Wanted<R>,
  share: (replica: R) => number, // of its memory, in tokens
): R | undefined =>
  [...replicas]
    .filter((replica) => !replica.draining || replica === own || !current)
    .filter((replica) => replica.models !== null)
    .filter((replica) => replica.reserved === 0 || replica.reserved + tokens <= share(replica))
    .sort((a, b) => Number(a.draining) - Number(b.draining) || a.load() - b.load() || a.epoch - b.epoch)[0]

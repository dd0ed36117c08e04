// What the beats of hosts and ranks say of one replica. Pure functions of what was heard.

import type { Hosts } from "../host/hosts.ts"
import type { HostedRank } from "../wire/host.ts"
import type { PlacedRank, Replica, Standby } from "../wire/replicas.ts"
import type { Observations } from "./observations.ts"
import type { Probe } from "./probes.ts"
import { type Health, type LostRank, passed, type StandbyHealth } from "./reconcile.ts"

/** A process that is told to be a rank beats as that rank by then. */
const TAKEN_MILLIS = 10_000

/** What a host was told to start appears in its beats by then. */
const STARTED_MILLIS = 3_000

export interface Seen {
  readonly hosts: Hosts
  readonly observed: Observations
  readonly probe: (replica: Replica) => Probe
}

export const health = (replica: Replica, seen: Seen): Health => {
  const { ranks, since } = replica
  const here = seen.hosts.all()
  const lost = ranks.filter((rank) => isLost(replica, rank, seen))
  if (lost.length > 0 && replaceable(replica, lost, seen)) {
    return { _tag: "Lost", ranks: lost.map(({ group, rank }) => ({ group, rank })) }
  }
  const gone = ranks.find(({ host }) => !here.has(host))
  if (gone !== undefined)
    return seen.hosts.certain() ? { _tag: "Gone", reason: `host ${gone.host} is gone` } : { _tag: "Starting" }
  const limits = ranks.flatMap(({ host }) => here.get(host) ?? []).filter(({ state }) => state === "draining")
  if (limits.length > 0) {
    return { _tag: "Leaving", limitMillis: Math.min(...limits.map(({ drainMillis }) => drainMillis)) }
  }
  let able = 0
  for (const placed of ranks) {
    const hosted = hostedOf(replica, placed, seen.hosts)
    if (hosted === undefined) {
      if (passed(since, Date.now()) > STARTED_MILLIS) return { _tag: "Unstarted" }
      continue
    }
    const named = `rank ${placed.rank} of ${placed.group} on ${placed.host}`
    if (hosted.state === "failed") return { _tag: "Failed", reason: `${named}: ${hosted.reason}` }
    const beat = seen.observed.rank(placeOf(replica, placed))
    const overdue = replica.state !== "activating" && Date.now() - since > TAKEN_MILLIS && seen.hosts.certain()
    if (beat === "silent" || (beat === null && overdue)) return { _tag: "Failed", reason: `${named} does not beat` }
    if (beat?.state === "failed") return { _tag: "Failed", reason: `${named}: ${beat.reason}` }
    if (beat?.state === "ready") able += 1
  }
  if (able < ranks.length) return { _tag: "Starting" }
  const probe = seen.probe(replica)
  if (typeof probe === "object") return { _tag: "Failed", reason: `its health pass: ${probe.failed}` }
  return { _tag: probe === "healthy" ? "Ready" : "Starting" }
}

export const standbyHealth = (replica: Replica, standby: Standby, seen: Seen): StandbyHealth => {
  const { hosts, observed } = seen
  const host = hosts.all().get(standby.host)
  if (host === undefined) return hosts.certain() ? "lost" : "starting"
  const hosted = hostedOf(replica, standby, seen.hosts)
  if (host.state === "draining" || hosted?.state === "failed") return "lost"
  if (hosted === undefined) return "unstarted"
  const place = placeOf(replica, { ...standby, rank: standby.member })
  const beat = observed.rank(place)
  if (beat === null || beat === "silent") return "starting"
  return beat.state === "standby" && hosted.pid === beat.pid && !observed.quiet(place) ? "ready" : "starting"
}

/** Whether every process of a replica has been heard in the epoch of its groups. */
export const isHeard = (replica: Replica, { observed }: Seen): boolean =>
  [...replica.ranks, ...replica.standbys.map((standby) => ({ ...standby, rank: standby.member }))].every(
    (placed) => observed.rank(placeOf(replica, placed)) !== null,
  )

/** Whether a rank that has served does not any more, or is another process, which has no KV. */
const isLost = (replica: Replica, placed: PlacedRank, seen: Seen): boolean => {
  if (replica.state === "activating") return false
  const { hosts, observed } = seen
  if (!hosts.all().has(placed.host)) return hosts.certain()
  const hosted = hostedOf(replica, placed, seen.hosts)
  if (hosted === undefined) return false
  const place = placeOf(replica, placed)
  const beat = observed.rank(place)
  const another = beat !== null && beat !== "silent" && hosted.pid !== beat.pid
  return hosted.state !== "running" || another || observed.quiet(place)
}

/** Whether there is a standby that is ready for each, one of a group. */
const replaceable = (replica: Replica, lost: ReadonlyArray<LostRank>, seen: Seen): boolean =>
  lost.every(({ group }) => {
    const standby = replica.standbys.find((one) => one.group === group)
    const alone = lost.filter((one) => one.group === group).length === 1
    return alone && standby !== undefined && standbyHealth(replica, standby, seen) === "ready"
  })

const placeOf = ({ deployment, formed }: Replica, { group, rank }: LostRank) => ({
  ...{ deployment: deployment.name, epoch: formed, group, rank },
})

/** What the host says of one of its processes. */
export const hostedOf = (
  { deployment, epoch }: Replica,
  { host, group, member }: Standby,
  hosts: Hosts,
): HostedRank | undefined =>
  hosts
    .all()
    .get(host)
    ?.ranks.find(
      (one) => one.deployment === deployment.name && one.epoch === epoch && one.group === group && one.rank === member,
    )

// The keeper: the one supervisor that places, starts and stops the replicas of all deployments, for as long as it holds the
// lease. What it has done is in the bucket of replicas, written by revision: one that was keeper in former times can write
// nothing, and its successor goes on with what it finds there.
import { Effect, FiberMap, Queue, SubscriptionRef } from "effect"
import type { Bucket, BucketFailed, Entries, Entry } from "../fabric/bucket.ts"
import { ranksPart, type StoredDeployment } from "../wire/deployment.ts"
import { COLD, type GivenUpRank, type Replica, type Replicas } from "../wire/replicas.ts"
import type { Hosts } from "./hosts.ts"
import type { ModelShelf } from "./models.ts"
import type { Observed } from "./observed.ts"
import { Peak } from "./peak.ts"
import type { Placement } from "./placement.ts"
import { placeOn } from "./placing.ts"
import { type Proofs, proofs } from "./proofs.ts"
import { type Health, nextStep, type Step } from "./reconcile.ts"

/** It looks again so often, beside whenever something has changed. */
const LOOK_MILLIS = 250

/** What a host was told to start appears in its beats by then. */
const STARTED_MILLIS = 3_000

/** What a host has given up it is not asked to run again for so long: the period of its restarts. */
const AVOID_MILLIS = 60_000

/** Extra replicas of a deployment that never idles go when they were not needed for so long. */
const SCALE_DOWN_MILLIS = 30_000

export interface KeeperOptions {
  readonly stored: SubscriptionRef.SubscriptionRef<Entries<StoredDeployment>>
  readonly replicas: Bucket<Replicas>
  readonly hosts: Hosts
  readonly observed: Observed
  readonly shelf: ModelShelf
  /** Ends when something has changed since it was taken last. */
  readonly changes: Queue.Dequeue<void>
  /** Something has. */
  readonly changed: () => void
}

/** Keeps until interrupted. */
export const keep = Effect.fnUntraced(function* (options: KeeperOptions) {
  const { hosts, observed, changes } = options
  yield* hosts.settled
  const followed = yield* options.replicas.follow
  // What we have written ourselves is known before the watch says it.
  const written = new Map<string, Entry<Replicas>>()
  const peaks = new Map<string, Peak>()
  const working = yield* FiberMap.make<string, void>()
  const proved = yield* proofs(observed, options.changed)

  const recordOf = (name: string): Entry<Replicas> => {
    const seen = SubscriptionRef.getUnsafe(followed).get(name) ?? { value: COLD, revision: 0 }
    const own = written.get(name)
    return own !== undefined && own.revision > seen.revision ? own : seen
  }
  const write = Effect.fnUntraced(function* (name: string, change: (record: Replicas) => Replicas) {
    const { value, revision } = recordOf(name)
    const next = change(value)
    const wrote = yield* options.replicas.replace(name, next, revision)
    if (wrote !== null) written.set(name, { value: next, revision: wrote })
    return wrote !== null // otherwise the watch will tell what is true, and we look again
  })
  const setReplica = (name: string, epoch: number, state: Replica["state"]) =>
    write(name, (record) => ({
      ...record,
      failure: state === "ready" ? null : record.failure,
      replicas: record.replicas.map((one) => (one.epoch === epoch ? { ...one, state, since: Date.now() } : one)),
    }))
  const fail = (name: string, kind: "placement" | "start", reason: string) =>
    write(name, (record) => ({
      ...record,
      failure: { kind, reason, count: (record.failure?.count ?? 0) + 1, at: Date.now() },
    }))

  const add = Effect.fnUntraced(function* (name: string, stored: StoredDeployment) {
    const others = [...allRecords(followed, written).values()].flatMap(({ value }) => value.replicas)
    const deployment = ranksPart(stored)
    const givenUp = lately(recordOf(name).value)
    const placement = yield* placeOn({ deployment, hosts, shelf: options.shelf, others, givenUp })
    if (placement._tag === "Refused") {
      yield* fail(name, "placement", placement.reason)
      return
    }
    const epoch = recordOf(name).value.epoch + 1
    const replica = replicaOf(epoch, deployment, placement)
    const mine = yield* write(name, (record) => ({ ...record, epoch, replicas: [...record.replicas, replica] }))
    if (mine) yield* start(replica)
  })

  const start = ({ epoch, deployment, ranks }: Replica) =>
    Effect.forEach(
      new Set(ranks.map(({ host }) => host)),
      (host) =>
        hosts
          .ask(host, {
            _tag: "StartRanks",
            deployment,
            epoch,
            ranks: ranks
              .filter((rank) => rank.host === host)
              .map(({ group, rank, device, bytes }) => ({ group, rank, device, bytes })),
          })
          .pipe(Effect.catch((error) => Effect.logWarning(error.message))), // its health will tell
      { concurrency: "unbounded", discard: true },
    )

  const run = Effect.fnUntraced(function* (name: string, stored: StoredDeployment | null, step: Step) {
    switch (step._tag) {
      case "None":
        return
      case "Add":
        return yield* stored === null ? Effect.void : add(name, stored)
      case "Start": {
        const replica = recordOf(name).value.replicas.find(({ epoch }) => epoch === step.epoch)
        return yield* replica === undefined ? Effect.void : start(replica)
      }
      case "Ready":
        return yield* setReplica(name, step.epoch, "ready")
      case "Drain":
        return yield* setReplica(name, step.epoch, "draining")
      case "Revive":
        return yield* setReplica(name, step.epoch, "ready")
      case "Drop": {
        if (step.failure !== null) yield* fail(name, "start", step.failure)
        const { value } = recordOf(name)
        const givenUp = givenUpOf(
          value.replicas.filter(({ epoch }) => epoch === step.epoch),
          hosts,
        )
        // Whoever follows sees it first; then its ranks are strays.
        return yield* write(name, (record) => ({
          ...record,
          replicas: record.replicas.filter(({ epoch }) => epoch !== step.epoch),
          givenUp: [...lately(record), ...givenUp],
        }))
      }
    }
  })

  const healthOf = (replica: Replica): Health => health(replica, hosts, observed, proved)

  const look = Effect.gen(function* () {
    const stored = SubscriptionRef.getUnsafe(options.stored)
    const records = allRecords(followed, written)
    const now = Date.now()
    yield* proved.renew([...records.values()].flatMap(({ value }) => value.replicas))
    for (const name of new Set([...stored.keys(), ...records.keys()])) {
      const wish = stored.get(name)?.value ?? null
      const record = recordOf(name).value
      const load = observed.load(name)
      const peak = peakOf(peaks, name, record, wish, now)
      peak.note(now, load)
      if (yield* FiberMap.has(working, name)) continue
      const window = wish?.idleTimeoutMillis ?? SCALE_DOWN_MILLIS
      const step = nextStep({
        ...{ stored: wish, record, load, peak: peak.over(now, window), now, health: healthOf },
        sessions: (epoch) => observed.sessions(name, epoch),
      })
      if (step._tag === "None") continue
      yield* FiberMap.run(working, name, Effect.catch(Effect.asVoid(run(name, wish, step)), warn))
    }
    for (const stray of straysOf(hosts, records)) {
      const key = `${stray.host} ${stray.deployment} ${stray.epoch}`
      if (yield* FiberMap.has(working, key)) continue
      const { host, deployment, epoch } = stray
      yield* FiberMap.run(
        working,
        key,
        Effect.catch(Effect.asVoid(hosts.ask(host, { _tag: "StopRanks", deployment, epoch })), warn),
      )
    }
  })
  return yield* Effect.forever(
    Effect.andThen(look, Effect.raceFirst(Effect.asVoid(Queue.take(changes)), Effect.sleep(LOOK_MILLIS))),
  )
})

const warn = (error: BucketFailed | { readonly message: string }) => Effect.logWarning(error.message)

const allRecords = (
  followed: SubscriptionRef.SubscriptionRef<Entries<Replicas>>,
  written: ReadonlyMap<string, Entry<Replicas>>,
): Entries<Replicas> => {
  const all = new Map(SubscriptionRef.getUnsafe(followed))
  for (const [name, own] of written) if (own.revision > (all.get(name)?.revision ?? 0)) all.set(name, own)
  return all
}

/** What was needed before we became the keeper is not known: replicas that there are count as needed until now. */
const peakOf = (
  peaks: Map<string, Peak>,
  name: string,
  { replicas }: Replicas,
  stored: StoredDeployment | null,
  now: number,
): Peak => {
  const known = peaks.get(name)
  if (known !== undefined) return known
  const peak = new Peak()
  peak.note(now, replicas.length * (stored?.replicas.sessions ?? 1))
  peaks.set(name, peak)
  return peak
}

/** What hosts have given up not long ago: it is placed elsewhere until they may try again. */
const lately = ({ givenUp = [] }: Replicas): ReadonlyArray<GivenUpRank> =>
  givenUp.filter(({ at }) => Date.now() - at < AVOID_MILLIS)

const givenUpOf = (replicas: ReadonlyArray<Replica>, hosts: Hosts): ReadonlyArray<GivenUpRank> =>
  replicas.flatMap((replica) =>
    replica.ranks.flatMap((rank) => {
      const hosted = hostedOf(replica, rank, hosts)
      if (hosted?.state !== "failed") return []
      const { group, host } = rank
      return [{ host, group, rank: rank.rank, reason: hosted.reason, at: Date.now() }]
    }),
  )

const hostedOf = ({ epoch, deployment }: Replica, { group, rank, host }: Replica["ranks"][number], hosts: Hosts) =>
  hosts
    .all()
    .get(host)
    ?.ranks.find(
      (one) => one.deployment === deployment.name && one.epoch === epoch && one.group === group && one.rank === rank,
    )

const replicaOf = (
  epoch: number,
  deployment: Replica["deployment"],
  { ranks }: Extract<Placement, { readonly _tag: "Placed" }>,
): Replica => ({ epoch, state: "activating", since: Date.now(), deployment, ranks })

const health = (replica: Replica, hosts: Hosts, observed: Observed, proved: Proofs): Health => {
  const { epoch, deployment, ranks, since } = replica
  const here = hosts.all()
  const gone = ranks.find(({ host }) => !here.has(host))
  if (gone !== undefined)
    return hosts.certain() ? { _tag: "Gone", reason: `host ${gone.host} is gone` } : { _tag: "Starting" }
  const limits = ranks.flatMap(({ host }) => here.get(host) ?? []).filter(({ state }) => state === "draining")
  if (limits.length > 0) {
    return { _tag: "Leaving", limitMillis: Math.min(...limits.map(({ drainMillis }) => drainMillis)) }
  }
  let able = 0
  for (const placed of ranks) {
    const { group, rank, host } = placed
    const hosted = hostedOf(replica, placed, hosts)
    if (hosted === undefined) {
      if (Date.now() - since > STARTED_MILLIS) return { _tag: "Unstarted" }
      continue
    }
    const named = `rank ${rank} of ${group} on ${host}`
    if (hosted.state === "failed") return { _tag: "Failed", reason: `${named}: ${hosted.reason}` }
    const beat = observed.rank({ deployment: deployment.name, epoch, group, rank })
    if (beat === "silent") return { _tag: "Failed", reason: `${named} does not beat` }
    if (beat?.state === "failed") return { _tag: "Failed", reason: `${named}: ${beat.reason}` }
    if (beat?.state === "ready") able += 1
  }
  if (able < ranks.length) return { _tag: "Starting" }
  const proof = proved.of(replica)
  if (typeof proof === "object") return { _tag: "Failed", reason: `its health pass: ${proof.failed}` }
  return { _tag: proof === "healthy" ? "Ready" : "Starting" }
}

/** Ranks of activations that are no more, as after a host was away, or a keeper died between two steps. */
const straysOf = (hosts: Hosts, records: Entries<Replicas>) =>
  [...hosts.all().values()].flatMap(({ name: host, ranks }) => {
    const strays = ranks.filter(
      ({ deployment, epoch }) => !records.get(deployment)?.value.replicas.some((one) => one.epoch === epoch),
    )
    const keys = new Map(strays.map(({ deployment, epoch }) => [`${deployment} ${epoch}`, { host, deployment, epoch }]))
    return [...keys.values()]
  })

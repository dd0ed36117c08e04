// The controller: the one supervisor that places, starts and stops the replicas of all deployments, for as long as it holds the
// lease. What it has done is in the bucket of replicas, written by revision: one that was controller in former times can write
// nothing, and its successor goes on with what it finds there.
import { Effect, FiberMap, Queue, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import type { Hosts } from "../host/hosts.ts"
import type { Bucket, BucketFailed, Entries, Entry } from "../store/bucket.ts"
import { codec } from "../wire/codec.ts"
import { ranksPart, type StoredDeployment } from "../wire/deployment.ts"
import { Formation } from "../wire/formation.ts"
import type { HostedRank } from "../wire/host.ts"
import { COLD, type GivenUpRank, type Replica, type Replicas, type Standby } from "../wire/replicas.ts"
import { formationSubject } from "../wire/subjects.ts"
import { formationOf, takenOver } from "./formation.ts"
import { health, hostedOf, isHeard, standbyHealth } from "./health.ts"
import type { ModelShelf } from "./models.ts"
import type { Observations } from "./observations.ts"
import { placeOn, placeStandby } from "./offers.ts"
import { PeakLoad } from "./peakLoad.ts"
import type { Placement } from "./placement.ts"
import { probes } from "./probes.ts"
import { type LostRank, nextStep, passed, type Step } from "./reconcile.ts"

const formations = codec("formation", Formation)

/** It looks again so often, beside whenever something has changed. */
const LOOK_MILLIS = 250

/** Where no host had room for a standby, another one is sought after so long. */
const STANDBY_AGAIN_MILLIS = 10_000

/** What a host has given up it is not asked to run again for so long: the period of its restarts. */
const AVOID_MILLIS = 60_000

/** Extra replicas of a deployment that never idles go when they were not needed for so long. */
const SCALE_DOWN_MILLIS = 30_000

export interface ControllerOptions {
  readonly stored: SubscriptionRef.SubscriptionRef<Entries<StoredDeployment>>
  readonly replicas: Bucket<Replicas>
  readonly hosts: Hosts
  readonly observed: Observations
  readonly shelf: ModelShelf
  /** Ends when something has changed since it was taken last. */
  readonly changes: Queue.Dequeue<void>
  /** Something has. */
  readonly changed: () => void
}

/** Keeps until interrupted. */
export const controller = Effect.fnUntraced(function* (options: ControllerOptions) {
  const { publish } = yield* Bus
  const { hosts, observed, changes } = options
  yield* hosts.settled
  const followed = yield* options.replicas.follow
  // What we have written ourselves is known before the watch says it.
  const written = new Map<string, Entry<Replicas>>()
  const peaks = new Map<string, PeakLoad>()
  const working = yield* FiberMap.make<string, void>()
  const proved = yield* probes(observed, options.changed)
  const vain = new Map<string, number>() // when no place was found for a standby, by epoch and group

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
    else written.delete(name) // the watch will tell what is true, in another bucket perhaps, and we look again
    return wrote !== null
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
    const mine = yield* write(name, (record) => ({ ...record, epoch, replicas: [...record.replicas, replica] })).pipe(
      // Sessions that wait for it have to know; without the replica the record may be small enough.
      Effect.tapError((error) => (error.tooLarge ? fail(name, "placement", error.message) : Effect.void)),
    )
    if (mine) yield* start(replica)
  })

  const start = ({ epoch, deployment, ranks, standbys }: Replica) => {
    const members = [...ranks, ...standbys]
    return Effect.forEach(
      new Set(members.map(({ host }) => host)),
      (host) =>
        hosts
          .ask(host, {
            _tag: "StartRanks",
            deployment,
            epoch,
            ranks: members
              .filter((one) => one.host === host)
              .map(({ group, member, device, bytes }) => ({ group, rank: member, device, bytes })),
          })
          .pipe(Effect.catch((error) => Effect.logWarning(error.message))), // its health will tell
      { concurrency: "unbounded", discard: true },
    )
  }

  const standBy = Effect.fnUntraced(function* (name: string, replica: Replica, group: Standby["group"]) {
    const { epoch, deployment, ranks } = replica
    const others = [...allRecords(followed, written).values()].flatMap(({ value }) => value.replicas)
    const givenUp = lately(recordOf(name).value)
    const placement = yield* placeStandby({ deployment, hosts, shelf: options.shelf, others, givenUp }, ranks, group)
    const [placed] = placement._tag === "Placed" ? placement.ranks : []
    if (placed === undefined) {
      vain.set(`${epoch} ${group}`, performance.now())
      const reason = placement._tag === "Refused" ? placement.reason : "no place"
      return yield* Effect.logWarning(`${name} has no standby for its ${group} group: ${reason}`)
    }
    // A number that none of the deployment's processes has had, nor will have.
    const number = recordOf(name).value.epoch + 1
    const { host, device, bytes } = placed
    const standby: Standby = { group, member: (deployment[group]?.ranks ?? 0) + number, host, device, bytes }
    const mine = yield* write(name, (record) => ({
      ...record,
      epoch: number,
      replicas: record.replicas.map((one) =>
        one.epoch === epoch ? { ...one, standbys: [...one.standbys, standby] } : one,
      ),
    }))
    const now = recordOf(name).value.replicas.find((one) => one.epoch === epoch)
    if (mine && now !== undefined) yield* start(now)
  })

  /** Written first: a process that follows the record and one that hears the formation come to the same epoch. */
  const takeOver = Effect.fnUntraced(function* (name: string, replica: Replica, lost: ReadonlyArray<LostRank>) {
    const formed = recordOf(name).value.epoch + 1
    const next = takenOver(replica, lost, { formed, now: Date.now() })
    if (next === null) return
    const mine = yield* write(name, (record) => ({
      ...record,
      epoch: formed,
      replicas: record.replicas.map((one) => (one.epoch === replica.epoch ? next : one)),
    }))
    if (mine) tell(next)
  })

  const tell = (replica: Replica): void => {
    publish(formationSubject(replica.deployment.name, replica.epoch), formations.encode(formationOf(replica)))
  }

  const run = Effect.fnUntraced(function* (name: string, stored: StoredDeployment | null, step: Step) {
    switch (step._tag) {
      case "None":
        return
      case "Add":
        return yield* stored === null ? Effect.void : add(name, stored)
      case "Start":
        return yield* on(name, step, start)
      case "StandBy":
        return yield* on(name, step, (replica) => standBy(name, replica, step.group))
      case "TakeOver":
        return yield* on(name, step, (replica) => takeOver(name, replica, step.ranks))
      case "Dismiss":
        return yield* write(name, (record) => ({
          ...record,
          replicas: record.replicas.map((one) => ({
            ...one,
            standbys: one.standbys.filter(({ member }) => one.epoch !== step.epoch || member !== step.standby.member),
          })),
        }))
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
        // The followers of the record see it first; then its ranks are strays.
        return yield* write(name, (record) => ({
          ...record,
          replicas: record.replicas.filter(({ epoch }) => epoch !== step.epoch),
          givenUp: [...lately(record), ...givenUp],
        }))
      }
    }
  })

  const on = <E>(
    name: string,
    { epoch }: { readonly epoch: number },
    act: (replica: Replica) => Effect.Effect<unknown, E>,
  ) => {
    const replica = recordOf(name).value.replicas.find((one) => one.epoch === epoch)
    return replica === undefined ? Effect.void : Effect.asVoid(act(replica))
  }

  const seen = { hosts, observed, probe: proved.of }
  const look = Effect.gen(function* () {
    const stored = SubscriptionRef.getUnsafe(options.stored)
    const records = allRecords(followed, written)
    const now = performance.now() // the clock of what is only known here
    yield* proved.renew([...records.values()].flatMap(({ value }) => value.replicas))
    for (const name of new Set([...stored.keys(), ...records.keys()])) {
      const wish = stored.get(name)?.value ?? null
      const record = recordOf(name).value
      const load = observed.load(name)
      const peak = peakOf(peaks, name, record, wish, now)
      peak.note(now, load)
      // Until every process has understood which rank it is.
      for (const replica of record.replicas) {
        if (replica.formed !== replica.epoch && !isHeard(replica, seen)) tell(replica)
      }
      if (yield* FiberMap.has(working, name)) continue
      const window = wish?.idleTimeoutMillis ?? SCALE_DOWN_MILLIS
      const step = nextStep({
        ...{ stored: wish, record, load, peak: peak.over(now, window), now: Date.now() },
        health: (replica) => health(replica, seen),
        standbyHealth: (replica, standby) => standbyHealth(replica, standby, seen),
        hopeful: (epoch, group) =>
          now - (vain.get(`${epoch} ${group}`) ?? Number.NEGATIVE_INFINITY) > STANDBY_AGAIN_MILLIS,
        sessions: (epoch) => observed.sessions(name, epoch),
      })
      if (step._tag === "None") continue
      yield* FiberMap.run(working, name, Effect.catch(Effect.asVoid(run(name, wish, step)), warn))
    }
    for (const stray of straysOf(hosts, records)) {
      const key = `${stray.host} ${stray.deployment} ${stray.epoch}`
      if (yield* FiberMap.has(working, key)) continue
      const { host, ...stopping } = stray
      yield* FiberMap.run(
        working,
        key,
        Effect.catch(Effect.asVoid(hosts.ask(host, { _tag: "StopRanks", ...stopping })), warn),
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

/** What was needed before we became the controller is not known: replicas that there are count as needed until now. */
const peakOf = (
  peaks: Map<string, PeakLoad>,
  name: string,
  { replicas }: Replicas,
  stored: StoredDeployment | null,
  now: number,
): PeakLoad => {
  const known = peaks.get(name)
  if (known !== undefined) return known
  const peak = new PeakLoad()
  peak.note(now, replicas.length * (stored?.replicas.sessions ?? 1))
  peaks.set(name, peak)
  return peak
}

/** What hosts have given up not long ago: it is placed elsewhere until they may try again. */
const lately = ({ givenUp = [] }: Replicas): ReadonlyArray<GivenUpRank> =>
  givenUp.filter(({ at }) => passed(at, Date.now()) < AVOID_MILLIS)

const givenUpOf = (replicas: ReadonlyArray<Replica>, hosts: Hosts): ReadonlyArray<GivenUpRank> =>
  replicas.flatMap((replica) =>
    replica.ranks.flatMap((placed) => {
      const hosted = hostedOf(replica, placed, hosts)
      if (hosted?.state !== "failed") return []
      const { host, group, rank } = placed
      return [{ host, group, rank, reason: hosted.reason, at: Date.now() }]
    }),
  )

const replicaOf = (
  epoch: number,
  deployment: Replica["deployment"],
  { ranks }: Extract<Placement, { readonly _tag: "Placed" }>,
): Replica => ({
  ...{ epoch, formed: epoch, state: "activating", since: Date.now(), deployment, standbys: [] },
  ranks: ranks.map((rank) => ({ ...rank, member: rank.rank })),
})

/** Processes of activations that are no more, and those whose place another has: as after a host was away, or a controller died between two steps. */
const straysOf = (hosts: Hosts, records: Entries<Replicas>) =>
  [...hosts.all().values()].flatMap(({ name: host, ranks }) => {
    const placed = (one: HostedRank): boolean => {
      const replica = records.get(one.deployment)?.value.replicas.find(({ epoch }) => epoch === one.epoch)
      return [...(replica?.ranks ?? []), ...(replica?.standbys ?? [])].some(
        ({ group, member, host: at }) => group === one.group && member === one.rank && at === host,
      )
    }
    const strays = ranks.filter((one) => !placed(one))
    const activations = new Map(
      strays.map(({ deployment, epoch }) => [`${deployment} ${epoch}`, { deployment, epoch }]),
    )
    return [...activations.values()].map((of) => ({
      ...{ host, ...of },
      ranks: strays
        .filter(({ deployment, epoch }) => deployment === of.deployment && epoch === of.epoch)
        .map(({ group, rank }) => ({ group, rank })),
    }))
  })

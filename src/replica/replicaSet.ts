// The replicas of one deployment, as a supervisor uses them: a session gets the least loaded one that is ready, or waits for
// one, and tells how far it is meanwhile. What it has to do, it tells the controller.
import { randomUUID } from "node:crypto"
import { Context, Effect, Equal, Exit, Scope, Stream, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { changes } from "../bus/changes.ts"
import type { Admitted, NotReady, SessionPlace } from "../generation/services.ts"
import type { Tokenizer } from "../model/index.ts"
import type { Entries } from "../store/bucket.ts"
import { codec } from "../wire/codec.ts"
import { type Deployment, ranksPart } from "../wire/deployment.ts"
import { ActivationFailed, NoPlacement, UnknownDeployment } from "../wire/errors.ts"
import { COLD, DEMAND_MILLIS, Demand, type Replicas } from "../wire/replicas.ts"
import { subjectsOf } from "../wire/subjects.ts"
import { type Link, openLink } from "./link.ts"
import { tellPrefixes } from "./prefixGossip.ts"
import { chooseReplica } from "./routing.ts"
import { countSupervisors } from "./supervisorCount.ts"

const demands = codec("demand", Demand)

/** How long an answer waits to hear that a place was found. */
const PLACED_MILLIS = 5_000

const LOOK_MILLIS = 250

export interface Waiting {
  readonly since: number // when it was asked for, by performance's clock
  readonly told: (fraction: number) => void // hears how far the ranks are
  readonly prompt: ReadonlyArray<number>
  readonly tokens: number // prompt and answer at most
  readonly admitted: Pick<Admitted["Service"], "begin">
}

type Wish = Pick<Waiting, "prompt" | "tokens">

export class ReplicaSet extends Context.Service<
  ReplicaSet,
  {
    /** Ends when a replica is ready or on its way. Fails when there is no place for one. */
    readonly admit: Effect.Effect<void, NotReady>
    /** Tokens that ready replicas have memory for. */
    readonly capacity: SubscriptionRef.SubscriptionRef<number>
    /** Tokens of ended sessions whose KV is kept. */
    readonly kept: () => number
    /** Ends when the deployment is another one by now, and none of these replicas is left: sessions go on with the others. */
    readonly over: Effect.Effect<void>
    /** Frees what a session of a former owner has left on any replica. */
    readonly free: (session: string) => Effect.Effect<void>
    /** The replica of one session until the scope closes: it has memory for it, and runs the fewest. */
    readonly take: (waiting: Waiting) => SessionPlace["Service"]["take"]
  }
>()("chorus/replica/ReplicaSet") {}

export interface ReplicaSetOptions {
  readonly deployment: Deployment // of which the replicas must be
  readonly current: () => boolean // whether the deployment is still to be served as it is here
  readonly removed: () => boolean // whether it is not to be served at all
  readonly tokenizer: Tokenizer
  readonly records: SubscriptionRef.SubscriptionRef<Entries<Replicas>>
  readonly running: (epoch: number) => number // sessions of all supervisors on a replica, as far as is known
}

/** Follows the replicas until the scope closes. */
export const followReplicas = Effect.fnUntraced(function* (options: ReplicaSetOptions) {
  const { deployment, records } = options
  const { name } = deployment
  const links = new Map<number, { readonly link: Link; readonly scope: Scope.Closeable }>()
  const parent = yield* Effect.scope
  let record: Replicas = COLD
  let waiting = 0
  const events = changes()
  const next = Effect.timeoutOption(events.next, LOOK_MILLIS) // a session that waits looks again now and then, come what may
  const capacity = yield* SubscriptionRef.make(0)
  const runFork = Effect.runForkWith(yield* Effect.context())
  const all = () => [...links.values()].map(({ link }) => link)
  const serving = () => all().filter(({ draining }) => !draining)
  /** Of a replica's memory, what this supervisor gives out. */
  const share = ({ kvTokens }: Link): number => Math.floor(kvTokens / supervisors())
  const changed = (): void => {
    const tokens = serving().reduce((sum, link) => sum + (link.models === null ? 0 : share(link)), 0)
    if (SubscriptionRef.getUnsafe(capacity) !== tokens) runFork(SubscriptionRef.set(capacity, tokens))
    events.tell()
  }
  const supervisors = yield* countSupervisors(name, () => changed())
  const told = yield* tellPrefixes({
    ...{ deployment: name, alone: () => supervisors() === 1 },
    of: (epoch) => links.get(epoch)?.link.models?.prefixes.elsewhere ?? null,
  })
  const demand = yield* tellDemand(options, () => ({
    waiting,
    running: [...links].flatMap(([epoch, { link }]) => (link.sessions > 0 ? [{ epoch, sessions: link.sessions }] : [])),
  }))

  const follow = Effect.fnUntraced(function* (next: Replicas) {
    record = next
    const there = new Map(next.replicas.map((replica) => [replica.epoch, replica]))
    for (const [epoch, { scope }] of links) {
      if (there.has(epoch)) continue
      links.delete(epoch)
      yield* Effect.forkIn(Scope.close(scope, Exit.void), parent)
    }
    for (const [epoch, replica] of there) {
      const known = links.get(epoch)
      if (known !== undefined) known.link.draining = replica.state === "draining"
      if (known !== undefined) yield* known.link.follow(replica)
      if (known !== undefined || !Equal.equals(replica.deployment, ranksPart(deployment))) continue
      const scope = yield* Scope.fork(parent)
      const link = yield* openLink({
        ...{ deployment, replica, tokenizer: options.tokenizer, changed },
        ...{ running: () => options.running(epoch), told: told(epoch) },
      }).pipe(Scope.provide(scope))
      link.draining = replica.state === "draining"
      links.set(epoch, { link, scope })
    }
    changed()
  })
  yield* SubscriptionRef.changes(records).pipe(
    Stream.map((all) => all.get(name)?.value ?? COLD),
    Stream.runForEach(follow),
    Effect.forkScoped,
  )

  const choose = (wanted: Wish, own: Link | null) =>
    chooseReplica(all(), { ...wanted, own, current: options.current() }, share)

  /** On a replica that stays. */
  const hasRoom = (wanted: Wish): boolean => choose(wanted, null)?.draining === false

  /** The failure of an activation that was tried while a session waited, unless another replica is on its way. */
  const failedSince = (before: number | undefined): NotReady | null => {
    const { failure } = record
    if (failure === null || failure.at === before || serving().length > 0) return null
    const { kind, reason } = failure
    return kind === "placement"
      ? new NoPlacement({ deployment: name, reason })
      : new ActivationFailed({ deployment: name, reason })
  }

  /** Of a deployment that was removed no replica comes any more. */
  const leftBehind = (own: Link | null): NotReady | null => {
    if (!options.removed() || serving().length > 0 || all().some((link) => link === own)) return null
    return new ActivationFailed({ deployment: name, reason: "it was removed, and its ranks are gone" })
  }

  const over = Effect.gen(function* () {
    while (options.current() || options.removed() || links.size > 0) yield* next
  })

  /** Counts as demand until the scope closes. */
  const wait = Effect.acquireRelease(
    Effect.sync(() => {
      waiting += 1
      demand.tell()
    }),
    () =>
      Effect.sync(() => {
        waiting -= 1
        demand.tell()
      }),
  )

  const admit = Effect.scoped(
    Effect.gen(function* () {
      if (options.removed()) return yield* new UnknownDeployment({ deployment: name })
      if (serving().some(({ models }) => models !== null)) return
      const before = record.failure?.at
      yield* wait
      const placed = Effect.gen(function* () {
        while (serving().length === 0 && options.current()) {
          const failed = failedSince(before)
          if (failed !== null) return yield* failed
          yield* next
        }
      })
      yield* Effect.timeoutOption(placed, PLACED_MILLIS)
    }),
  )

  const claim = (scope: Scope.Scope, wanted: Wish, own: Link | null) =>
    Effect.acquireRelease(
      Effect.suspend(() => {
        const link = choose(wanted, own)
        const models = link?.models ?? null
        if (link === undefined || models === null) return Effect.succeed(null)
        link.sessions += 1
        link.reserved += wanted.tokens
        demand.tell()
        return Effect.as(models.prefixes.fit(share(link) - link.reserved, wanted.prompt), { link, models })
      }),
      (claimed) =>
        Effect.sync(() => {
          if (claimed === null) return
          claimed.link.sessions -= 1
          claimed.link.reserved -= wanted.tokens
          demand.tell()
          events.tell()
        }),
    ).pipe(Scope.provide(scope))

  const take = (waiting: Waiting): SessionPlace["Service"]["take"] => {
    let own: Link | null = null
    return Effect.suspend(() => find(waiting, own)).pipe(
      Effect.map(({ link, models }) => {
        own = link
        const leaves = () => link.draining && options.current() && hasRoom(waiting)
        return { models, coldStart: link.coldStart(waiting.since), leaves }
      }),
    )
  }

  const find = Effect.fnUntraced(function* (waiting: Waiting, own: Link | null) {
    const { told, admitted } = waiting
    const scope = yield* Effect.scope
    const before = record.failure?.at
    return yield* Effect.scoped(
      Effect.gen(function* () {
        yield* wait
        yield* admitted.begin
        const began = performance.now()
        for (;;) {
          const claimed = yield* claim(scope, waiting, own)
          if (claimed !== null) return claimed
          const failed = unlessItMayCome(failedSince(before), began) ?? leftBehind(own)
          if (failed !== null) return yield* failed
          told(Math.max(0, ...serving().map(({ progress }) => progress())))
          yield* next
        }
      }),
    )
  })

  const free = (session: string) => Effect.forEach(all(), (link) => link.free(session), { discard: true })

  const kept = () => all().reduce((sum, { models }) => sum + (models?.prefixes.tokens() ?? 0), 0)

  return ReplicaSet.of({ admit, capacity, kept, over, free, take })
})

/** Hosts that were lost have been started again by then. */
const HOSTS_BACK_MILLIS = 30_000

/** A session that was accepted does not end because there is no place for the moment: null while one may come. */
const unlessItMayCome = (failed: NotReady | null, began: number): NotReady | null =>
  failed?._tag === "NoPlacement" && performance.now() - began < HOSTS_BACK_MILLIS ? null : failed

/** Tells the controller at every change, and again while there is something to tell. */
const tellDemand = Effect.fnUntraced(function* (
  { deployment }: ReplicaSetOptions,
  current: () => Pick<Demand, "waiting" | "running">,
) {
  const { publish } = yield* Bus
  const runFork = Effect.runForkWith(yield* Effect.context())
  const subject = subjectsOf(deployment.name).demand
  const source = randomUUID()
  let telling = false
  const say = Effect.sync(() => {
    telling = false
    publish(subject, demands.encode({ _tag: "Demand", source, deployment: deployment.name, ...current() }))
  })
  /** Once for all that changes in one turn. */
  const tell = (): void => {
    if (!telling) runFork(Effect.andThen(Effect.yieldNow, say))
    telling = true
  }
  const again = Effect.sync(() => {
    const { waiting, running } = current()
    if (waiting > 0 || running.length > 0) tell()
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(DEMAND_MILLIS), again)))
  return { tell }
})

// The replicas of one deployment, as a supervisor uses them: a session gets the least loaded one that is ready, or waits for
// one, and tells how far it is meanwhile. What it has to do, it tells the keeper.
import { randomUUID } from "node:crypto"
import { Context, Effect, Equal, Exit, Scope, Stream, SubscriptionRef } from "effect"
import type { Entries } from "../fabric/bucket.ts"
import { Nats } from "../fabric/nats.ts"
import type { Tokenizer } from "../model/index.ts"
import { codec } from "../wire/codec.ts"
import { type Deployment, ranksPart } from "../wire/deployment.ts"
import { ActivationFailed, NoPlacement, Overloaded } from "../wire/errors.ts"
import { COLD, DEMAND_MILLIS, Demand, type Replicas } from "../wire/replicas.ts"
import { subjectsOf } from "../wire/subjects.ts"
import type { NotReady, Place } from "../workflow/generation.ts"
import { type Link, openLink } from "./link.ts"

const demands = codec("demand", Demand)

/** Where nobody knows better, it pays to ask again after this. */
const RETRY_MILLIS = 1_000

/** How long an answer waits to hear that a place was found. */
const PLACED_MILLIS = 5_000

const LOOK_MILLIS = 250

export interface Waiting {
  readonly since: number // when it was asked for, by performance's clock
  readonly told: (fraction: number) => void // hears how far the ranks are
}

export class ReplicaSet extends Context.Service<
  ReplicaSet,
  {
    /** Ends when a session may begin: a replica is ready or on its way. Fails when too many wait, or there is no place. */
    readonly admit: Effect.Effect<void, NotReady>
    /** The replica of one session until the scope closes. */
    readonly take: (waiting: Waiting) => Place["Service"]["take"]
  }
>()("chorus/supervisor/ReplicaSet") {}

export interface ReplicaSetOptions {
  readonly deployment: Deployment // of which the replicas must be
  readonly queue: () => number // sessions that may wait
  readonly tokenizer: Tokenizer
  readonly records: SubscriptionRef.SubscriptionRef<Entries<Replicas>>
}

/** Follows the replicas until the scope closes. */
export const followReplicas = Effect.fnUntraced(function* (options: ReplicaSetOptions) {
  const { deployment, records } = options
  const { name } = deployment
  const links = new Map<number, { readonly link: Link; readonly scope: Scope.Closeable }>()
  const parent = yield* Effect.scope
  let record: Replicas = COLD
  let waiting = 0
  const events = waiters()
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
      if (known !== undefined || !Equal.equals(replica.deployment, ranksPart(deployment))) continue
      const scope = yield* Scope.fork(parent)
      const link = yield* openLink({ deployment, epoch, tokenizer: options.tokenizer, changed: events.wake }).pipe(
        Scope.provide(scope),
      )
      link.draining = replica.state === "draining"
      links.set(epoch, { link, scope })
    }
    events.wake()
  })
  yield* SubscriptionRef.changes(records).pipe(
    Stream.map((all) => all.get(name)?.value ?? COLD),
    Stream.runForEach(follow),
    Effect.forkScoped,
  )

  const serving = () => [...links.values()].map(({ link }) => link).filter(({ draining }) => !draining)
  const leastLoaded = () =>
    serving()
      .filter((link) => link.models !== null)
      .sort((a, b) => a.load() - b.load() || a.epoch - b.epoch)[0]

  /** The failure of an activation that was tried while somebody waited, unless another replica is on its way. */
  const failedSince = (before: number | undefined): NotReady | null => {
    const { failure } = record
    if (failure === null || failure.at === before || serving().length > 0) return null
    const { kind, reason } = failure
    return kind === "placement"
      ? new NoPlacement({ deployment: name, reason })
      : new ActivationFailed({ deployment: name, reason })
  }

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
      if (leastLoaded() !== undefined) return
      const most = options.queue()
      if (waiting >= most) {
        return yield* new Overloaded({ deployment: name, waiting, retryAfterMillis: RETRY_MILLIS })
      }
      const before = record.failure?.at
      yield* wait
      const placed = Effect.gen(function* () {
        while (serving().length === 0) {
          const failed = failedSince(before)
          if (failed !== null) return yield* failed
          yield* events.next
        }
      })
      yield* Effect.timeoutOption(placed, PLACED_MILLIS)
    }),
  )

  const claim = (scope: Scope.Scope) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const link = leastLoaded()
        const models = link?.models ?? null
        if (link === undefined || models === null) return null
        link.sessions += 1
        demand.tell()
        return { link, models }
      }),
      (claimed) =>
        Effect.sync(() => {
          if (claimed === null) return
          claimed.link.sessions -= 1
          demand.tell()
        }),
    ).pipe(Scope.provide(scope))

  const take = Effect.fnUntraced(function* ({ since, told }: Waiting) {
    const scope = yield* Effect.scope
    const at = yield* claim(scope)
    if (at !== null) return { models: at.models, coldStart: at.link.coldStart(since) }
    const before = record.failure?.at
    return yield* Effect.scoped(
      Effect.gen(function* () {
        yield* wait
        for (;;) {
          const claimed = yield* claim(scope)
          if (claimed !== null) return { models: claimed.models, coldStart: claimed.link.coldStart(since) }
          const failed = failedSince(before)
          if (failed !== null) return yield* failed
          told(Math.max(0, ...serving().map(({ progress }) => progress())))
          yield* events.next
        }
      }),
    )
  })

  return ReplicaSet.of({ admit, take })
})

/** Who waits for something to change. */
const waiters = () => {
  const waiting = new Set<() => void>()
  return {
    wake: (): void => {
      for (const resume of [...waiting]) resume()
    },
    /** The next change, or some time: who waits looks again either way. */
    next: Effect.callback<void>((resume) => {
      const done = (): void => {
        if (waiting.delete(done)) resume(Effect.void)
      }
      waiting.add(done)
      return Effect.sync(() => waiting.delete(done))
    }).pipe(Effect.timeoutOption(LOOK_MILLIS)),
  }
}

/** Tells the keeper at every change, and again while there is something to tell. */
const tellDemand = Effect.fnUntraced(function* (
  { deployment }: ReplicaSetOptions,
  current: () => Pick<Demand, "waiting" | "running">,
) {
  const { connection } = yield* Nats
  const subject = subjectsOf(deployment.name).demand
  const source = randomUUID()
  const tell = (): void => {
    if (connection.isClosed()) return
    connection.publish(subject, demands.encode({ _tag: "Demand", source, deployment: deployment.name, ...current() }))
  }
  const again = Effect.sync(() => {
    const { waiting, running } = current()
    if (waiting > 0 || running.length > 0) tell()
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(DEMAND_MILLIS), again)))
  return { tell }
})

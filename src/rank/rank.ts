// One rank from its options: opens the model, loads its shard, and serves until the scope closes. It beats from the first
// moment, so that the loading, or why it failed, can be seen. A standby loads the whole model, and waits for a place.
import { Effect, Layer, Option, Stream, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { ProcessId } from "../bus/processId.ts"
import { Peers } from "../group/exchange.ts"
import { type Model, OpenModel, wholeShard } from "../model/index.ts"
import type { Deployment, Group } from "../wire/deployment.ts"
import { groupSubjects } from "../wire/subjects.ts"
import { Compute } from "./device/compute.ts"
import { firstPass } from "./firstPass.ts"
import { followFormation, type MemberRole } from "./formation.ts"
import { listen, takePlace } from "./kv/standby.ts"
import { StandbyFeed } from "./kv/standbyFeed.ts"
import { StandbyStore } from "./kv/standbyStore.ts"
import { transferOverBus } from "./kv/transferOverBus.ts"
import { serve } from "./server.ts"
import { announce, type Status } from "./status.ts"
import { describeShard } from "./strategy/shards.ts"
import { ownersOf, STRATEGIES, shardOf } from "./strategy/strategies.ts"

export interface RankOptions {
  readonly deployment: Deployment
  readonly group: Group
  readonly member: number // its number among the group's processes: the rank that it is, or, behind them, a standby
  readonly epoch: number // of the activation
}

export const rank = Effect.fnUntraced(function* (options: RankOptions) {
  const { flush } = yield* Bus
  const { deployment, group, epoch } = options
  const { strategy, ranks, name, model } = group
  const identity = { group: name, rank: options.member, ranks, epoch, pid: yield* ProcessId, strategy, model }
  const status = yield* announce(deployment.name, identity)
  // Said before the process ends.
  const fail = (reason: string) => Effect.andThen(status.set({ state: "failed", reason }), Effect.ignore(flush))
  yield* start(options, status).pipe(
    Effect.tapError(({ message }) => fail(message)),
    Effect.tapDefect((defect) => fail(String(defect))),
  )
})

const start = Effect.fnUntraced(function* (options: RankOptions, status: Status) {
  const { deployment, group, member, epoch: activation } = options
  const open = yield* OpenModel
  const model = yield* open(group.model)
  const roles = yield* followFormation({ deployment: deployment.name, activation, group, member })
  const standby = member >= group.ranks
  const shard = standby ? wholeShard(model.shape) : shardOf(group, model.shape, deployment.fuzzy, member)
  yield* status.set({ shard: describeShard(shard) })
  const { device, threads } = group
  const { deterministic } = deployment
  const progress = (progress: number) => status.note({ progress })
  const services = yield* Layer.build(Compute.layer({ model, shard, device, threads, deterministic, progress }))
  const compute = yield* Compute.pipe(Effect.provide(services))
  yield* firstPass(compute, shard, model.shape.width)
  const { bytesOfWeights, device: chosen, kvTokens } = compute
  yield* status.set({ progress: 1, device: `${chosen.name} (${chosen.variant})`, bytesOfWeights })
  const store = standby ? new StandbyStore(group.ranks, kvTokens) : null
  const standing = stand({ options, status, model, standbyFeed: new StandbyFeed() }, roles, store).pipe(
    Effect.tapDefect((defect) => status.set({ state: "failed", reason: String(defect) })),
  )
  yield* Effect.forkScoped(Effect.provide(standing, services))
  yield* Effect.addFinalizer(() => status.set({ state: "draining" }))
})

/** What a process has, whatever its place is. */
interface Process {
  readonly options: RankOptions
  readonly status: Status
  readonly model: Model
  readonly standbyFeed: StandbyFeed
}

/** Takes one place after the other, as the formations have it. */
const stand = Effect.fnUntraced(function* (
  self: Process,
  roles: SubscriptionRef.SubscriptionRef<MemberRole>,
  store: StandbyStore | null,
) {
  let spare = store // until it is a rank
  for (let now = SubscriptionRef.getUnsafe(roles); ; ) {
    const here = now
    now = yield* Effect.scoped(
      Effect.gen(function* () {
        const leave = yield* take(self, here, spare)
        const next = yield* after(roles, here)
        yield* leave
        return next
      }),
    )
    if (typeof here.role === "number") spare = null
  }
})

const after = (roles: SubscriptionRef.SubscriptionRef<MemberRole>, { epoch }: MemberRole): Effect.Effect<MemberRole> =>
  SubscriptionRef.changes(roles).pipe(
    Stream.filter((next) => next.epoch > epoch),
    Stream.runHead,
    Effect.flatMap(Option.match({ onNone: () => Effect.never, onSome: Effect.succeed })),
  )

/** Until the scope closes; gives what is to be done before it closes for another place. */
const take = Effect.fnUntraced(function* (self: Process, { role, epoch }: MemberRole, spare: StandbyStore | null) {
  const { options, status, model, standbyFeed } = self
  const { deployment, group } = options
  const compute = yield* Compute
  if (role === "lost") {
    yield* status.set({ state: "draining" }) // under the old epoch; no process listens there
    return Effect.void
  }
  if (role === "standby") {
    const store = spare ?? new StandbyStore(group.ranks, compute.kvTokens)
    yield* listen({ deployment: deployment.name, epoch, group: group.name }, store)
    const load = () => ({
      bytesOfKv: store.bytes,
      sessions: store.sessions,
      computeMillis: 0,
      kvMessages: 0,
      kvBytes: 0,
    })
    yield* status.set({ state: "standby", epoch, kvTokens: compute.kvTokens(), load })
    return Effect.void
  }
  const shard = shardOf(group, model.shape, deployment.fuzzy, role)
  if (spare !== null) yield* takePlace(compute, spare, shard, role)
  const { abandon } = yield* work(self, role, epoch, `${group.model}: ${describeShard(shard)}`)
  const load = () => ({
    ...{ bytesOfKv: compute.bytesOfKv(), sessions: compute.sessions().length, computeMillis: compute.computeMillis() },
    ...{ kvMessages: standbyFeed.messages, kvBytes: standbyFeed.bytes },
  })
  const kvTokens = compute.kvTokens()
  yield* answerRollCall(self, epoch)
  yield* status.set({ state: "ready", rank: role, epoch, shard: describeShard(shard), kvTokens, load })
  yield* Effect.forkScoped(status.register)
  return abandon
})

const work = Effect.fnUntraced(function* (
  { options, model, standbyFeed }: Process,
  rank: number,
  epoch: number,
  shard: string,
) {
  const compute = yield* Compute
  const { deployment, group } = options
  const { layers, width, vocab, context } = model.shape
  const owners = ownersOf(group, layers, deployment.fuzzy)
  const peers = yield* Layer.build(Peers.layer({ deployment: deployment.name, group: group.name, rank, epoch }))
  const layout = { deployment: deployment.name, group: group.name, rank, epoch }
  const transfer = yield* transferOverBus({ ...layout, shard, compute })
  return yield* serve({
    ...{ deployment: deployment.name, epoch, standbyFeed, transfer },
    rankContext: {
      ...{ group: group.name, rank, compute, fetch: transfer.fetch, strategy: STRATEGIES[group.strategy] },
      isEnd: (token) => model.tokenizer.isEnd(token),
      vocabulary: model.tokenizer.vocabulary.tokens.length,
      bounds: { vocab, context, maxRows: compute.maxRows },
      layout: { rank, ranks: group.ranks, layers, width, owners },
    },
  }).pipe(Effect.provide(peers))
})

/** A supervisor that joins the group in an epoch that has begun already need not wait for the next beat. */
const answerRollCall = Effect.fnUntraced(function* ({ options, status }: Process, epoch: number) {
  const { subscribe } = yield* Bus
  const runFork = Effect.runForkWith(yield* Effect.context())
  const { rollCall } = groupSubjects({ deployment: options.deployment.name, epoch, group: options.group.name })
  yield* subscribe(rollCall, () => void runFork(status.beat))
})

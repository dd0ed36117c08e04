// What a rank says of itself: four beats a second, and an entry in the NATS services protocol, so that `nats micro ls` and
// `chorus ps` find it.
import { Effect, Stream, SubscriptionRef } from "effect"
import { Bus, beating } from "../bus/bus.ts"
import { BEAT_MILLIS, RankBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import { groupSubjects } from "../wire/subjects.ts"

const beats = codec("rank beat", RankBeat)

/** What may change while a rank lives. */
export type Condition = Pick<
  RankBeat,
  "state" | "progress" | "reason" | "shard" | "device" | "bytesOfWeights" | "kvTokens"
> & {
  /** The rank that it is, and the epoch of its group: other ones where a standby takes a place. */
  readonly rank: number
  readonly epoch: number
  readonly load: () => Pick<RankBeat, "bytesOfKv" | "sessions" | "computeMillis" | "kvMessages" | "kvBytes">
}
/** What does not. */
export type Identity = Pick<RankBeat, "group" | "ranks" | "pid" | "strategy" | "model"> &
  Pick<Condition, "rank" | "epoch">

/** Beats until the scope closes. */
export const announce = Effect.fnUntraced(function* (deployment: string, identity: Identity) {
  const { publish, register: registerService, connected } = yield* Bus
  const { rank, epoch, ...constant } = identity
  let condition: Condition = {
    ...{ state: "loading", progress: 0, reason: "", shard: "", device: "", bytesOfWeights: 0, kvTokens: 0 },
    ...{ rank, epoch, load: () => ({ bytesOfKv: 0, sessions: 0, computeMillis: 0, kvMessages: 0, kvBytes: 0 }) },
  }
  let connections = 0
  const subjects = () => groupSubjects({ deployment, epoch: condition.epoch, group: identity.group })
  const message = () => {
    const { load, ...rest } = condition
    return beats.encode({ _tag: "RankBeat", ...constant, ...rest, ...load(), connections })
  }
  const beat = yield* beating(BEAT_MILLIS, () => publish(subjects().beat(condition.rank), message()))
  const beatAnew = Effect.suspend(() => {
    connections += 1
    return beat
  })
  yield* SubscriptionRef.changes(connected).pipe(
    Stream.filter((up) => up),
    Stream.runForEach(() => beatAnew),
    Effect.forkScoped,
  )
  const note = (change: Partial<Condition>): void => {
    condition = { ...condition, ...change }
  }
  const register = Effect.suspend(() =>
    registerService({
      name: "chorus-rank",
      description: `rank ${condition.rank} of ${identity.ranks}, ${identity.group} of ${deployment}`,
      metadata: {
        ...{ deployment, group: identity.group, rank: `${condition.rank}`, ranks: `${identity.ranks}` },
        ...{ strategy: identity.strategy, model: identity.model, pid: `${identity.pid}` },
        ...{ shard: condition.shard, device: condition.device },
      },
      endpoint: "status",
      subject: subjects().status(condition.rank),
      queue: "",
      answer: () => Effect.sync(() => ({ bytes: message() })),
    }),
  )
  return {
    note,
    beat,
    register,
    set: (change: Partial<Condition>) =>
      Effect.andThen(
        Effect.sync(() => note(change)),
        beat,
      ),
  }
})

/** `note` changes the condition, `set` also says so at once, `beat` says it again, `register` makes the rank known to the services protocol. */
export type Status = Effect.Success<ReturnType<typeof announce>>

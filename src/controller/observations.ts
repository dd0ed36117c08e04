// What the controller hears of all deployments: every rank's beats, and the demand of every supervisor.
import { Effect, Result, Schema, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { Heard } from "../bus/silence.ts"
import { BEAT_MILLIS, RankBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import { GroupName } from "../wire/deployment.ts"
import { placeKey, type RankPlace } from "../wire/host.ts"
import { DEMAND_MILLIS, Demand } from "../wire/replicas.ts"
import { subjectsOf } from "../wire/subjects.ts"

const isGroup = Schema.is(GroupName)
const rankBeats = codec("rank beat", RankBeat)
const demands = codec("demand", Demand)

/** A rank that was not heard for so long hangs, where its host says that it runs. */
const RANK_SILENT_TICKS = 10_000 / BEAT_MILLIS

/** And one that was not for so long is forgotten. */
const RANK_GONE_TICKS = 4 * RANK_SILENT_TICKS

/** One that was not heard for so long is replaced where a standby is ready: a mistake costs little then. */
const RANK_QUIET_TICKS = 1_000 / BEAT_MILLIS

/** A supervisor that does not repeat its demand has none any more, or is gone. */
const DEMAND_TICKS = (4 * DEMAND_MILLIS) / BEAT_MILLIS

export interface Observations {
  /** A rank's newest beat; null where it is not heard, "silent" where it was. */
  readonly rank: (place: RankPlace) => RankBeat | "silent" | null
  /** Whether a rank that was heard is not heard now, for one that has a standby. */
  readonly quiet: (place: RankPlace) => boolean
  /** Sessions that run on one replica, of all supervisors. */
  readonly sessions: (deployment: string, epoch: number) => number
  /** Sessions that run or wait. */
  readonly load: (deployment: string) => number
}

/** Listens until the scope closes; `changed` is called where the controller may have to act. */
export const observe = Effect.fnUntraced(function* (changed: () => void) {
  const { subscribe, connected } = yield* Bus
  const now = performance.now()
  const ranks = new Heard<string, RankBeat>({ everyMillis: BEAT_MILLIS, missed: RANK_GONE_TICKS }, now)
  const demand = new Heard<string, Demand>({ everyMillis: BEAT_MILLIS, missed: DEMAND_TICKS + 1 }, now)
  const hearRank = (subject: string, message: Uint8Array): void => {
    const beat = rankBeats.decode(message)
    if (Result.isFailure(beat)) return // another actor's
    const deployment = subject.split(".")[2] ?? ""
    const { epoch, group, rank, state } = beat.success
    if (!isGroup(group)) return
    const key = placeKey({ deployment, epoch, group, rank })
    if (ranks.hear(key, beat.success)?.state !== state) changed()
  }
  const hearDemand = (message: Uint8Array): void => {
    const said = demands.decode(message)
    if (Result.isFailure(said)) return
    demand.hear(`${said.success.deployment} ${said.success.source}`, said.success)
    changed()
  }
  const { beats, demand: wishes } = subjectsOf("*")
  yield* subscribe(beats, ({ subject, data }) => hearRank(subject, data))
  yield* subscribe(wishes, ({ data }) => hearDemand(data))
  const tick = Effect.sync(() => {
    const up = SubscriptionRef.getUnsafe(connected)
    for (const heard of [ranks, demand]) heard.tick(performance.now(), up)
    if ([...ranks.all.keys()].some((key) => ranks.since(key) === RANK_QUIET_TICKS + 1)) changed()
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(BEAT_MILLIS), tick)))
  const said = (deployment: string) => [...demand.all.values()].filter((one) => one.deployment === deployment)
  const observed: Observations = {
    rank: (place) => {
      const key = placeKey(place)
      return ranks.since(key) > RANK_SILENT_TICKS ? "silent" : (ranks.all.get(key) ?? null)
    },
    quiet: (place) => ranks.since(placeKey(place)) > RANK_QUIET_TICKS,
    sessions: (deployment, epoch) =>
      sum(
        said(deployment).flatMap(({ running }) =>
          running.filter((one) => one.epoch === epoch).map((one) => one.sessions),
        ),
      ),
    load: (deployment) =>
      sum(said(deployment).flatMap(({ waiting, running }) => [waiting, ...running.map(({ sessions }) => sessions)])),
  }
  return observed
})

const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((total, number) => total + number, 0)

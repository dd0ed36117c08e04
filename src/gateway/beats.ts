// What ranks and supervisors say of themselves, as of now: one that is not heard any more is not there any more.
import { Context, Effect, Layer, Result, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { Heard } from "../bus/silence.ts"
import { BEAT_MILLIS, RankBeat, SUPERVISOR_BEAT_MILLIS, SupervisorBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import { subjectsOf } from "../wire/subjects.ts"

const rankBeats = codec("rank beat", RankBeat)
const supervisorBeats = codec("supervisor beat", SupervisorBeat)

/** An actor that misses this many beats is gone. */
const BEATS_MISSED = 4

export type RankHeard = { readonly deployment: string } & RankBeat

export class Beats extends Context.Service<
  Beats,
  {
    readonly ranks: Effect.Effect<ReadonlyArray<RankHeard>>
    readonly supervisors: Effect.Effect<ReadonlyArray<SupervisorBeat>>
  }
>()("chorus/gateway/Beats") {
  static readonly layer = Layer.effect(
    this,
    Effect.suspend(() => listen()),
  )
}

const listen = Effect.fnUntraced(function* () {
  const { subscribe, connected } = yield* Bus
  const ranks = yield* heard<RankHeard>(connected, BEAT_MILLIS)
  const supervisors = yield* heard<SupervisorBeat>(connected, SUPERVISOR_BEAT_MILLIS)
  const hear = (subject: string, message: Uint8Array): void => {
    const [, , deployment = "", , actor] = subject.split(".")
    if (actor === "supervisor") {
      const beat = supervisorBeats.decode(message)
      if (Result.isSuccess(beat)) supervisors.hear(subject, beat.success)
      return
    }
    const beat = rankBeats.decode(message)
    if (Result.isSuccess(beat)) ranks.hear(subject, { deployment, ...beat.success })
  }
  yield* subscribe(subjectsOf("*").beats, ({ subject, data }) => hear(subject, data))
  return Beats.of({
    ranks: Effect.sync(() => [...ranks.all.values()]),
    supervisors: Effect.sync(() => [...supervisors.all.values()]),
  })
})

/** By subject. */
const heard = Effect.fnUntraced(function* <Beat>(
  connected: SubscriptionRef.SubscriptionRef<boolean>,
  everyMillis: number,
) {
  const beats = new Heard<string, Beat>({ everyMillis, missed: BEATS_MISSED + 1 }, performance.now())
  const tick = Effect.sync(() => beats.tick(performance.now(), SubscriptionRef.getUnsafe(connected)))
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(everyMillis), tick)))
  return beats
})

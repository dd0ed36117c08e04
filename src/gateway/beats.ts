// What ranks say of themselves, as of now: one that is not heard any more is not there any more.
import { Context, Effect, Layer, Result } from "effect"
import { Nats } from "../fabric/nats.ts"
import { BEAT_MILLIS, RankBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import { subjectsOf } from "../wire/subjects.ts"

const beats = codec("rank beat", RankBeat)

/** A rank that has not been heard for so long is gone. */
const SILENCE_MILLIS = 4 * BEAT_MILLIS

export type RankHeard = { readonly deployment: string } & RankBeat

export class Beats extends Context.Service<
  Beats,
  {
    readonly ranks: Effect.Effect<ReadonlyArray<RankHeard>>
  }
>()("chorus/gateway/Beats") {
  static readonly layer = Layer.effect(
    this,
    Effect.suspend(() => listen()),
  )
}

const listen = Effect.fnUntraced(function* () {
  const { connection } = yield* Nats
  const ranks = new Map<string, RankHeard & { readonly at: number }>()
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      connection.subscribe(subjectsOf("*").beats, {
        callback: (error, { subject, data }) => {
          const beat = error === null ? beats.decode(data) : undefined
          const deployment = subject.split(".")[2]
          if (beat === undefined || Result.isFailure(beat) || deployment === undefined) return // of another kind
          ranks.set(subject, { deployment, at: Date.now(), ...beat.success })
        },
      }),
    ),
    (subscription) => Effect.sync(() => subscription.unsubscribe()),
  )
  const forget = Effect.sync(() => {
    for (const [subject, { at }] of ranks) if (Date.now() - at > SILENCE_MILLIS) ranks.delete(subject)
  })
  return Beats.of({ ranks: Effect.map(forget, () => [...ranks.values()]) })
})

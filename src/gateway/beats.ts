// What ranks and supervisors say of themselves, as of now: one that is not heard any more is not there any more.
import { Context, Effect, Layer, Result } from "effect"
import { Bus } from "../bus/bus.ts"
import { BEAT_MILLIS, RankBeat, SUPERVISOR_BEAT_MILLIS, SupervisorBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import { subjectsOf } from "../wire/subjects.ts"

const rankBeats = codec("rank beat", RankBeat)
const supervisorBeats = codec("supervisor beat", SupervisorBeat)

/** Whoever has missed so many beats is gone. */
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
  const { subscribe } = yield* Bus
  const ranks = new Lately<RankHeard>(BEATS_MISSED * BEAT_MILLIS)
  const supervisors = new Lately<SupervisorBeat>(BEATS_MISSED * SUPERVISOR_BEAT_MILLIS)
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
  return Beats.of({ ranks: Effect.sync(() => ranks.now()), supervisors: Effect.sync(() => supervisors.now()) })
})

/** The newest beat of each that was heard lately. */
class Lately<Beat> {
  readonly #millis: number
  readonly #heard = new Map<string, { readonly beat: Beat; readonly at: number }>()

  constructor(millis: number) {
    this.#millis = millis
  }

  hear(subject: string, beat: Beat): void {
    this.#heard.set(subject, { beat, at: performance.now() })
  }

  now(): ReadonlyArray<Beat> {
    const oldest = performance.now() - this.#millis
    for (const [subject, { at }] of this.#heard) if (at < oldest) this.#heard.delete(subject)
    return [...this.#heard.values()].map(({ beat }) => beat)
  }
}

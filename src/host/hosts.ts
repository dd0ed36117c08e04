// The hosts, as a supervisor sees them: their beats, and requests to them.
import { Effect, Fiber, Result, Schema, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { Heard } from "../bus/silence.ts"
import { codec } from "../wire/codec.ts"
import {
  HOST_BEAT_MILLIS,
  HOST_BEATS_MISSED,
  HostAnswer,
  HostBeat,
  type HostRequest,
  HostRequest as HostRequestSchema,
} from "../wire/host.ts"
import { hostSubjects, ROLL_CALL } from "../wire/subjects.ts"

const beats = codec("host beat", HostBeat)
const requests = codec("host request", HostRequestSchema)
const answers = codec("host answer", HostAnswer)

/** Stopping ranks drain first. */
const ANSWER_MILLIS = 15_000

/** Those that are there have answered the roll call by then. */
const ROLL_CALL_MILLIS = 300

export class HostSilent extends Schema.TaggedError<HostSilent>()("HostSilent", {
  host: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `host ${this.host} did not do what it was asked for: ${this.reason}`
  }
}

export interface Hosts {
  /** Those that are heard, by name. */
  readonly all: () => ReadonlyMap<string, HostBeat>
  /** Ends when those that are there are known. */
  readonly settled: Effect.Effect<void>
  /** Whether one that is not heard is gone for sure: we have listened for long enough. */
  readonly certain: () => boolean
  readonly ask: (host: string, request: HostRequest) => Effect.Effect<HostAnswer, HostSilent>
}

/** Watches until the scope closes; `changed` is called when a host comes, goes, or says something new of its ranks. */
export const watchHosts = Effect.fnUntraced(function* (changed: () => void) {
  const { publish, subscribe, request: askBus, connected } = yield* Bus
  const heard = new Heard<string, HostBeat>(
    { everyMillis: HOST_BEAT_MILLIS, missed: HOST_BEATS_MISSED + 1 },
    performance.now(),
  )
  let ticks = 0
  const hear = (message: Uint8Array): void => {
    const decoded = beats.decode(message)
    if (Result.isFailure(decoded)) return
    const beat = decoded.success
    const before = heard.all.get(beat.name)
    if (beat.state === "left") heard.left(beat.name)
    else heard.hear(beat.name, beat)
    if (before?.state !== beat.state || JSON.stringify(before.ranks) !== JSON.stringify(beat.ranks)) changed()
  }
  yield* subscribe(hostSubjects("*").beat, ({ data }) => hear(data))
  publish(ROLL_CALL)
  const settling = yield* Effect.forkScoped(Effect.sleep(ROLL_CALL_MILLIS))
  const tick = Effect.sync(() => {
    const up = SubscriptionRef.getUnsafe(connected)
    if (up) ticks += 1
    if (heard.tick(performance.now(), up).length > 0) changed()
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(HOST_BEAT_MILLIS), tick)))
  const ask = Effect.fnUntraced(function* (host: string, request: HostRequest) {
    const asked = askBus(hostSubjects(host).control, requests.encode(request), { withinMillis: ANSWER_MILLIS })
    const { data } = yield* Effect.mapError(asked, ({ reason }) => new HostSilent({ host, reason }))
    const answer = yield* Effect.mapError(
      Effect.fromResult(answers.decode(data)),
      ({ message }) => new HostSilent({ host, reason: message }),
    )
    if (answer._tag === "HostRefused") return yield* new HostSilent({ host, reason: answer.reason })
    return answer
  })
  const hosts: Hosts = {
    all: () => heard.all,
    settled: Effect.asVoid(Fiber.await(settling)),
    certain: () => ticks > HOST_BEATS_MISSED,
    ask,
  }
  return hosts
})

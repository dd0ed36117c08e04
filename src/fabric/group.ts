// A group of ranks, as a supervisor sees it: one command starts a pass and one answer ends it. Whoever waits for an answer
// watches the ranks' beats and the connection meanwhile, so a death is noticed long before a time-out.
import { randomInt } from "node:crypto"
import { type MsgHdrs, type NatsConnection, RequestError } from "@nats-io/transport-node"
import { Deferred, Effect, Latch, Result, Schema, Stream, SubscriptionRef } from "effect"
import { BEAT_MILLIS, RankBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import type { Group as GroupConfig } from "../wire/deployment.ts"
import { GroupSilent, type PassError, PassFailed } from "../wire/errors.ts"
import {
  type Decode,
  type Decoded,
  type Draft,
  type Drafted,
  type DraftedTogether,
  GroupControl,
  PassAnswer,
  PassCommand,
  type Prefill,
  type Prefilled,
  type Verified,
  type Verify,
} from "../wire/pass.ts"
import { groupSubjects } from "../wire/subjects.ts"
import { insist, Nats } from "./nats.ts"
import { traceHeaders, traceparent } from "./telemetry.ts"

const beats = codec("rank beat", RankBeat)
const commands = codec("pass command", PassCommand)
const answers = codec("pass answer", PassAnswer)
const controls = codec("group control", GroupControl)

/** A rank that has not been heard for so many beats is gone. */
const BEATS_MISSED = 4

/** No pass takes so long: it is there for what no beat shows, and for the client's own bookkeeping. */
const ANSWER_MILLIS = 600_000

/** How often a pass is tried again after a lost message. */
const ATTEMPTS = 4

/** A rank cannot load its shard. */
export class RankFailed extends Schema.TaggedError<RankFailed>()("RankFailed", {
  group: Schema.String,
  rank: Schema.Int,
  reason: Schema.String,
}) {
  override get message() {
    return `rank ${this.rank} of ${this.group} cannot start: ${this.reason}`
  }
}

/** What a pass took as its sender sees it. */
export interface Timed<Answer> {
  readonly answer: Answer
  readonly millis: number // from the command to the answer
  readonly bytes: number // of both
}

export type GroupError = PassError | GroupSilent

type Numbered = "epoch" | "pass" | "attempt"

export interface Group {
  readonly name: string
  readonly prefill: (command: Omit<Prefill, Numbered>) => Effect.Effect<Timed<Prefilled>, GroupError>
  readonly decode: (command: Omit<Decode, Numbered>) => Effect.Effect<Timed<Decoded>, GroupError>
  readonly verify: (command: Omit<Verify, Numbered>) => Effect.Effect<Timed<Verified>, GroupError>
  readonly draft: (command: Omit<Draft, Numbered>) => Effect.Effect<Timed<Drafted>, GroupError>
  /** Drafts of different sessions with one N, in one pass. */
  readonly draftTogether: (
    drafts: readonly [Omit<Draft, Numbered>, ...ReadonlyArray<Omit<Draft, Numbered>>],
  ) => Effect.Effect<Timed<DraftedTogether>, GroupError>
  /** Frees a session's KV on every rank; Abort also stops a pass of it that runs. */
  readonly control: (control: GroupControl) => Effect.Effect<void>
  /** The newest beat of each rank. */
  readonly beats: SubscriptionRef.SubscriptionRef<ReadonlyMap<number, RankBeat>>
  /** Ends when every rank is ready. */
  readonly ready: Effect.Effect<void, RankFailed>
  /** Ends when a rank that was heard is heard no more. */
  readonly silent: Effect.Effect<GroupSilent>
}

export interface GroupOptions {
  readonly deployment: string
  readonly group: GroupConfig
  readonly epoch: number
}

export const join = Effect.fnUntraced(function* ({ deployment, group, epoch }: GroupOptions) {
  const { connection, connected } = yield* Nats
  const subjects = groupSubjects({ deployment, epoch, group: group.name })
  const watch = yield* watchBeats(subjects.beats, { group, epoch })
  // Two supervisors, or one and its successor, must not give one number to two passes of a group.
  let last = randomInt(2 ** 31)

  const { ask, settle } = questions(connection, subjects.pass)
  let gone: GroupSilent | undefined
  const leave = (silent: GroupSilent): void => {
    gone ??= silent
    settle(gone)
  }
  yield* Effect.forkScoped(Effect.map(watch.silent, leave))
  // Nobody listens for beats any more, so whoever still waits would wait for ever.
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => leave(new GroupSilent({ group: group.name, reason: "its ranks were given up" }))),
  )
  yield* SubscriptionRef.changes(connected).pipe(
    Stream.drop(1), // as it is now
    Stream.filter((up) => up), // asked again when there is somebody to hear it
    Stream.runForEach(() => Effect.sync(() => settle("lost"))),
    Effect.forkScoped,
  )

  const pass = Effect.fnUntraced(function* <C extends PassCommand, Answer extends PassAnswer["_tag"]>(
    command: C,
    tag: Answer,
  ) {
    const began = performance.now()
    const span = traceHeaders(yield* traceparent)
    for (let attempt = 0; ; attempt++) {
      yield* watch.gathered
      const bytes = commands.encode(again(command, attempt))
      const reply = gone ?? (yield* ask(bytes, span))
      if (reply instanceof GroupSilent) return yield* reply
      if (reply === "lost") {
        if (attempt < ATTEMPTS) continue
        return yield* new GroupSilent({ group: group.name, reason: "the connection was lost again and again" })
      }
      const answer = yield* Effect.fromResult(answers.decode(reply))
      if (answer._tag === "Refused") {
        if (answer.error._tag === "PeerSilent" && attempt < ATTEMPTS) continue
        return yield* answer.error
      }
      if (!isTagged(answer, tag)) {
        const reason = `it answered ${answer._tag} to ${command._tag}`
        return yield* new PassFailed({ group: group.name, rank: 0, reason })
      }
      return { answer, millis: performance.now() - began, bytes: bytes.byteLength + reply.byteLength }
    }
  })

  const numbered = () => ({ epoch, pass: ++last, attempt: 0 })
  const service: Group = {
    name: group.name,
    prefill: (command) => Effect.suspend(() => pass({ ...command, ...numbered() }, "Prefilled")),
    decode: (command) => Effect.suspend(() => pass({ ...command, ...numbered() }, "Decoded")),
    verify: (command) => Effect.suspend(() => pass({ ...command, ...numbered() }, "Verified")),
    draft: (command) => Effect.suspend(() => pass({ ...command, ...numbered() }, "Drafted")),
    draftTogether: ([first, ...more]) =>
      Effect.suspend(() => {
        const drafts = [{ ...first, ...numbered() }, ...more.map((draft) => ({ ...draft, ...numbered() }))] as const
        const { pass: number } = drafts[0]
        return pass({ _tag: "DraftTogether", epoch, pass: number, attempt: 0, drafts }, "DraftedTogether")
      }),
    control: (control) => Effect.sync(() => void insist(connection, subjects.control, controls.encode(control))),
    ...{ beats: watch.beats, ready: watch.ready, silent: watch.silent },
  }
  return service
})

const again = (command: PassCommand, attempt: number): PassCommand => {
  if (command._tag !== "DraftTogether") return { ...command, attempt }
  const [first, ...more] = command.drafts
  return { ...command, attempt, drafts: [{ ...first, attempt }, ...more.map((draft) => ({ ...draft, attempt }))] }
}

/** What became of a question: the answer's bytes, or nothing that will ever come. */
type Outcome = Uint8Array | "lost" | GroupSilent

/** Questions that wait. Their answers come by themselves; that none will come, `settle` says to all of them at once. */
const questions = (connection: NatsConnection, subject: string) => {
  const open = new Set<(outcome: Outcome) => void>()
  const ask = (message: Uint8Array, headers: MsgHdrs | undefined): Effect.Effect<Outcome> =>
    Effect.callback<Outcome>((resume) => {
      const end = (outcome: Outcome): void => {
        if (open.delete(end)) resume(Effect.succeed(outcome))
      }
      open.add(end)
      const send = (): void => {
        if (!open.has(end) || connection.isClosed()) return
        connection.request(subject, message, { timeout: ANSWER_MILLIS, ...(headers && { headers }) }).then(
          ({ data }) => end(data),
          (error: unknown) => {
            const nobody = error instanceof RequestError && error.isNoResponders() // as while ranks reconnect
            if (nobody) setTimeout(send, BEAT_MILLIS)
          },
        )
      }
      send()
      return Effect.sync(() => open.delete(end))
    })
  const settle = (outcome: Outcome): void => {
    for (const end of [...open]) end(outcome) // who is told may ask again at once
  }
  return { ask, settle }
}

const watchBeats = Effect.fnUntraced(function* (subject: string, of: Pick<GroupOptions, "group" | "epoch">) {
  const { connection, connected } = yield* Nats
  const { name, ranks } = of.group
  const heard = yield* SubscriptionRef.make<ReadonlyMap<number, RankBeat>>(new Map())
  const lost = yield* Deferred.make<GroupSilent>()
  const missed = new Map<number, number>()
  // A rank that is not back yet would not hear a command that its peers hear, and they would wait for it in vain.
  const gathered = Latch.makeUnsafe(true)
  const absent = new Set<number>() // not heard since the connection came back
  yield* SubscriptionRef.changes(connected).pipe(
    Stream.runForEach((up) =>
      Effect.sync(() => {
        if (!up) Latch.closeUnsafe(gathered)
        for (const rank of up ? missed.keys() : []) absent.add(rank)
        if (up && absent.size === 0) Latch.openUnsafe(gathered)
      }),
    ),
    Effect.forkScoped,
  )
  const hear = (message: Uint8Array): Effect.Effect<void> => {
    const beat = beats.decode(message)
    if (Result.isFailure(beat)) return Effect.logWarning(beat.failure.message)
    if (beat.success.epoch !== of.epoch) return Effect.void
    missed.set(beat.success.rank, 0)
    if (absent.delete(beat.success.rank) && absent.size === 0) Latch.openUnsafe(gathered)
    return SubscriptionRef.update(heard, (known) => new Map(known).set(beat.success.rank, beat.success))
  }
  const runFork = Effect.runForkWith(yield* Effect.context())
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      connection.subscribe(subject, { callback: (error, { data }) => void (error === null && runFork(hear(data))) }),
    ),
    (subscription) => Effect.sync(() => subscription.unsubscribe()),
  )
  // Ticks are counted, not time, and at a late one nobody is judged: who was held up himself finds the beats in his socket.
  let ticked = performance.now()
  const tick = Effect.gen(function* () {
    const up = yield* SubscriptionRef.get(connected)
    const late = performance.now() - ticked > 1.5 * BEAT_MILLIS
    ticked = performance.now()
    for (const [rank, beats] of missed) {
      missed.set(rank, up ? beats + 1 : 0)
      if (late || !up || beats + 1 < BEATS_MISSED) continue
      const reason = `rank ${rank} was not heard for ${BEATS_MISSED * BEAT_MILLIS} ms`
      yield* Deferred.succeed(lost, new GroupSilent({ group: name, reason }))
      Latch.openUnsafe(gathered)
    }
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(BEAT_MILLIS), tick)))
  const ready = SubscriptionRef.changes(heard).pipe(
    Stream.mapEffect((known) => {
      const failed = [...known.values()].find(({ state }) => state === "failed")
      if (failed !== undefined) {
        return Effect.fail(new RankFailed({ group: name, rank: failed.rank, reason: failed.reason }))
      }
      const able = [...known.values()].filter(({ state }) => state === "ready")
      return Effect.succeed(able.length === ranks)
    }),
    Stream.filter((all) => all),
    Stream.runHead,
    Effect.asVoid,
  )
  return { beats: heard, ready, silent: Deferred.await(lost), gathered: Latch.await(gathered) }
})

const isTagged = <T extends PassAnswer["_tag"]>(
  answer: PassAnswer,
  tag: T,
): answer is Extract<PassAnswer, { readonly _tag: T }> => answer._tag === tag

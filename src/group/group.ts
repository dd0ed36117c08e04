// A group of ranks, as a supervisor sees it: one command starts a pass and one answer ends it. While a command waits for its
// answer, the ranks' beats and the connection are watched, so a death is noticed long before a time-out. What follows from
// what is heard is decided by questions.ts and attendance.ts.
import { randomInt } from "node:crypto"
import { Deferred, Effect, Exit, Result, Schema, Scope, Stream, SubscriptionRef } from "effect"
import { Bus, insist, type Message, type RequestOptions } from "../bus/bus.ts"
import { traceparent } from "../bus/telemetry.ts"
import { BEAT_MILLIS, RankBeat } from "../wire/beat.ts"
import { codec } from "../wire/codec.ts"
import type { Group as GroupConfig } from "../wire/deployment.ts"
import { GroupSilent, MalformedMessage, type PassError, PassFailed } from "../wire/errors.ts"
import {
  type Decode,
  type Decoded,
  type Draft,
  type Drafted,
  GroupControl,
  PassAnswer,
  PassCommand,
  type Prefill,
  type Prefilled,
  type Verified,
  type Verify,
} from "../wire/pass.ts"
import { groupSubjects } from "../wire/subjects.ts"
import { Attendance } from "./attendance.ts"
import { type Asker, type QuestionOutcome, Questions } from "./questions.ts"

const beats = codec("rank beat", RankBeat)
const commands = codec("pass command", PassCommand)
const answers = codec("pass answer", PassAnswer)
const controls = codec("group control", GroupControl)

/** Ranks may be in another epoch for so long before we know. */
const LATELY_MILLIS = 2_000

/**
 * A pass without an answer is asked for again so often, by the same numbers: a rank that has it takes it for a repetition.
 * One whose connection was away for a moment has not heard it, and neither beats nor this connection show that.
 */
const ASK_AGAIN_MILLIS = 5_000

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

export interface Group extends GroupPasses {
  readonly name: string
  /** Frees a session's KV on every rank; Abort also stops a pass of it that runs. */
  readonly control: (control: GroupControl) => Effect.Effect<void>
  /** The newest beat of each rank. */
  readonly beats: SubscriptionRef.SubscriptionRef<ReadonlyMap<number, RankBeat>>
  /** Ends when every rank is ready. */
  readonly ready: Effect.Effect<void, RankFailed>
  /** Ends when a rank that was heard is heard no more, or is another process without any KV, and no standby takes its place. */
  readonly silent: Effect.Effect<GroupSilent>
  /** The group goes on in another epoch: a standby has taken a rank's place. What is asked is asked there again. */
  readonly move: (epoch: number) => Effect.Effect<void>
  /** The one that it is in. */
  readonly epoch: () => number
}

interface GroupPasses {
  readonly prefill: (command: Omit<Prefill, Numbered>) => Effect.Effect<Timed<Prefilled>, GroupError>
  readonly decode: (command: Omit<Decode, Numbered>) => Effect.Effect<Timed<Decoded>, GroupError>
  readonly verify: (command: Omit<Verify, Numbered>) => Effect.Effect<Timed<Verified>, GroupError>
  readonly draft: (command: Omit<Draft, Numbered>) => Effect.Effect<Timed<Drafted>, GroupError>
}

export interface GroupOptions {
  readonly deployment: string
  readonly group: GroupConfig
  readonly epoch: number
  readonly standby?: () => boolean // whether there is one now
}

export const join = Effect.fnUntraced(function* ({ deployment, group, epoch, standby = () => false }: GroupOptions) {
  const bus = yield* Bus
  const runFork = Effect.runForkWith(yield* Effect.context())
  const place = (epoch: number) => ({ epoch, subjects: groupSubjects({ deployment, epoch, group: group.name }) })
  let now = place(epoch)
  const questions = new Questions(group.name, epoch)
  const attendance = new Attendance(group.ranks, standby, performance.now())
  const watch = yield* watchBeats(group, attendance, {
    attended: () => questions.gather(attendance.gathered),
    again: () => questions.lost(),
  })
  yield* watch.listen(now)
  yield* Effect.forkScoped(Effect.map(watch.silent, ({ reason }) => questions.leave(reason)))
  // Beats are no longer listened to, so a command that still waits would wait for ever.
  yield* Effect.addFinalizer(() => Effect.sync(() => questions.leave("its ranks were given up", true)))
  yield* SubscriptionRef.changes(bus.connected).pipe(
    Stream.runForEach((up) =>
      Effect.sync(() => {
        const back = attendance.connection(up)
        questions.gather(attendance.gathered)
        if (back) questions.lost()
      }),
    ),
    Effect.forkScoped,
  )

  const lately: Array<{ readonly bytes: Uint8Array; readonly at: number }> = [] // controls, which ranks that moved have not heard
  const control = (control: GroupControl): void => {
    const at = performance.now()
    const bytes = controls.encode(control)
    while (lately[0] !== undefined && at - lately[0].at > LATELY_MILLIS) lately.shift()
    lately.push({ bytes, at })
    runFork(insist(bus, now.subjects.control, bytes))
  }
  const move = Effect.fnUntraced(function* (epoch: number) {
    if (epoch <= now.epoch) return
    now = place(epoch)
    attendance.move()
    questions.gather(attendance.gathered)
    yield* watch.listen(now)
    questions.move(epoch)
    for (const control of lately.splice(0)) runFork(insist(bus, now.subjects.control, control.bytes))
  })

  /** Another try would be refused as well. */
  const tooLarge = (pass: number, bytes: number): PassAnswer => {
    const reason = `its command has ${bytes} bytes, max_payload of nats-server is ${bus.maxPayload()}. Raise it`
    return { _tag: "Refused", pass, error: new PassFailed({ group: group.name, rank: 0, reason }) }
  }

  const ask = (command: PassCommand, headers: RequestOptions["headers"]): Effect.Effect<Reply> =>
    Effect.callback<Reply>((resume) => {
      let bytes = 0
      const options = { withinMillis: ASK_AGAIN_MILLIS, headers }
      const asker: Asker = {
        send: (question) => {
          const message = commands.encode(question.command)
          const heard = ({ data }: Message): void => {
            const answer = answers.decode(data)
            bytes = message.byteLength + data.byteLength
            questions.answered(question, Result.isSuccess(answer) ? answer.success : answer.failure)
          }
          const refuse = (): void => questions.answered(question, tooLarge(question.command.pass, message.byteLength))
          const send: Effect.Effect<void> = Effect.suspend(() => {
            if (!questions.isOpen(question)) return Effect.void
            return Effect.matchEffect(bus.request(now.subjects.pass, message, options), {
              onSuccess: (answer) => Effect.sync(() => heard(answer)),
              onFailure: ({ reason }) => {
                if (reason === "closed") return Effect.void
                if (reason === "too large") return Effect.sync(refuse)
                return reason === "timeout" ? send : Effect.delay(send, BEAT_MILLIS) // as while ranks reconnect
              },
            })
          })
          runFork(send)
        },
        end: (outcome) => resume(Effect.succeed({ outcome, bytes })),
      }
      questions.ask(command, asker)
      return Effect.sync(() => questions.withdraw(asker))
    })

  const service: Group = {
    name: group.name,
    // Two supervisors, or one and its successor, must not give one number to two passes of a group.
    ...passesOf({ group: group.name, last: randomInt(2 ** 31) }, (command) =>
      Effect.flatMap(traceparent, (parent) => ask(command, parent === undefined ? undefined : { traceparent: parent })),
    ),
    control: (said) => Effect.sync(() => control(said)),
    ...{ beats: watch.beats, ready: watch.ready, silent: watch.silent, move },
    epoch: () => now.epoch,
  }
  return service
})

/** What became of a question, and the bytes of both. */
interface Reply {
  readonly outcome: QuestionOutcome
  readonly bytes: number
}

export interface Numbering {
  readonly group: string
  readonly last: number // number that was given to a pass
}

/** A group's passes, whatever its questions travel by. */
export const passesOf = (of: Numbering, ask: (command: PassCommand) => Effect.Effect<Reply>): GroupPasses => {
  const { group } = of
  let last = of.last
  const numbered = () => ({ epoch: 0, pass: ++last, attempt: 0 }) // the epoch is the one in which it is sent

  const pass = Effect.fnUntraced(function* <C extends PassCommand, Answer extends PassAnswer["_tag"]>(
    command: C,
    tag: Answer,
  ) {
    const began = performance.now()
    const { outcome, bytes } = yield* ask(command)
    if (outcome._tag === "Refused") return yield* outcome.error
    if (outcome._tag === "GroupSilent" || outcome instanceof MalformedMessage) return yield* outcome
    if (!isTagged(outcome, tag)) {
      const reason = `it answered ${outcome._tag} to ${command._tag}`
      return yield* new PassFailed({ group, rank: 0, reason })
    }
    return { answer: outcome, millis: performance.now() - began, bytes }
  })

  return {
    prefill: (command) => Effect.suspend(() => pass({ ...command, ...numbered() }, "Prefilled")),
    decode: (command) => Effect.suspend(() => pass({ ...command, ...numbered() }, "Decoded")),
    verify: (command) => Effect.suspend(() => pass({ ...command, ...numbered() }, "Verified")),
    draft: (command) => Effect.suspend(() => pass({ ...command, ...numbered() }, "Drafted")),
  }
}

interface GroupEpoch {
  readonly epoch: number
  readonly subjects: ReturnType<typeof groupSubjects>
}

interface Attending {
  readonly attended: () => void // called after any change to which ranks are there
  readonly again: () => void // called when what was asked may not have been heard
}

/** The ranks' beats, in one epoch after the other. */
const watchBeats = Effect.fnUntraced(function* (
  { name, ranks }: GroupConfig,
  attendance: Attendance,
  { attended, again }: Attending,
) {
  const { publish, subscribe } = yield* Bus
  const heard = yield* SubscriptionRef.make<ReadonlyMap<number, RankBeat>>(new Map())
  const lost = yield* Deferred.make<GroupSilent>()
  const runFork = Effect.runForkWith(yield* Effect.context())
  const parent = yield* Effect.scope
  let listening: Scope.Closeable | null = null // in one epoch
  const look = Effect.suspend(() => {
    attended()
    const { lost: reason } = attendance
    return reason === undefined ? Effect.void : Deferred.succeed(lost, new GroupSilent({ group: name, reason }))
  })
  const hear = Effect.fnUntraced(function* (epoch: number, message: Uint8Array) {
    const decoded = beats.decode(message)
    if (Result.isFailure(decoded)) return yield* Effect.logWarning(decoded.failure.message)
    const beat = decoded.success
    if (beat.epoch !== epoch || beat.rank >= ranks) return // of another time, or a standby's
    if (attendance.heard(beat)) again()
    yield* SubscriptionRef.update(heard, (known) => new Map(known).set(beat.rank, beat))
    yield* look
  })
  const listen = Effect.fnUntraced(function* ({ epoch, subjects }: GroupEpoch) {
    if (listening !== null) yield* Scope.close(listening, Exit.void)
    listening = yield* Scope.fork(parent)
    yield* SubscriptionRef.set(heard, new Map())
    yield* subscribe(subjects.beats, ({ data }) => void runFork(hear(epoch, data))).pipe(Scope.provide(listening))
    publish(subjects.rollCall)
  })
  const tick = Effect.suspend(() => {
    attendance.tick(performance.now())
    return look
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
  return { beats: heard, ready, silent: Deferred.await(lost), listen }
})

const isTagged = <T extends PassAnswer["_tag"]>(
  answer: PassAnswer,
  tag: T,
): answer is Extract<PassAnswer, { readonly _tag: T }> => answer._tag === tag

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

/** Where a standby may take a lost rank's place, it has done so by then. */
const PATIENCE_MILLIS = 3_000

/** Ranks may be in another epoch for so long before we know. */
const LATELY_MILLIS = 2_000

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
  /** Ends when a rank that was heard is heard no more, or is another process without any KV, and no standby takes its place. */
  readonly silent: Effect.Effect<GroupSilent>
  /** The group goes on in another epoch: a standby has taken a rank's place. What is asked is asked there again. */
  readonly move: (epoch: number) => Effect.Effect<void>
  /** The one that it is in. */
  readonly epoch: () => number
}

export interface GroupOptions {
  readonly deployment: string
  readonly group: GroupConfig
  readonly epoch: number
  readonly standby?: () => boolean // whether there is one now
}

export const join = Effect.fnUntraced(function* (options: GroupOptions) {
  const { deployment, group } = options
  const { connection, connected } = yield* Nats
  const place = (epoch: number) => ({ epoch, subjects: groupSubjects({ deployment, epoch, group: group.name }) })
  let now = place(options.epoch)
  // Two supervisors, or one and its successor, must not give one number to two passes of a group.
  let last = randomInt(2 ** 31)

  const { ask, settle } = questions(connection, () => now.subjects.pass)
  const watch = yield* watchBeats(options, () => settle("lost"))
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
  const lately: Array<{ readonly bytes: Uint8Array; readonly at: number }> = [] // controls, which ranks that moved have not heard
  const control = (control: GroupControl): void => {
    const at = performance.now()
    const bytes = controls.encode(control)
    while (lately[0] !== undefined && at - lately[0].at > LATELY_MILLIS) lately.shift()
    lately.push({ bytes, at })
    insist(connection, now.subjects.control, bytes)
  }
  const move = (epoch: number) =>
    Effect.gen(function* () {
      if (epoch <= now.epoch) return
      now = place(epoch)
      yield* watch.move(epoch)
      settle("lost")
      for (const control of lately.splice(0)) insist(connection, now.subjects.control, control.bytes)
    })

  const pass = Effect.fnUntraced(function* <C extends PassCommand, Answer extends PassAnswer["_tag"]>(
    command: C,
    tag: Answer,
  ) {
    const began = performance.now()
    const span = traceHeaders(yield* traceparent)
    for (let attempt = 0; ; attempt++) {
      yield* watch.gathered
      const bytes = commands.encode(again(command, now.epoch, attempt))
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

  const numbered = () => ({ epoch: now.epoch, pass: ++last, attempt: 0 })
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
        return pass({ _tag: "DraftTogether", epoch: now.epoch, pass: number, attempt: 0, drafts }, "DraftedTogether")
      }),
    control: (said) => Effect.sync(() => control(said)),
    ...{ beats: watch.beats, ready: watch.ready, silent: watch.silent, move },
    epoch: () => now.epoch,
  }
  return service
})

const again = (command: PassCommand, epoch: number, attempt: number): PassCommand => {
  const anew = { epoch, attempt }
  if (command._tag !== "DraftTogether") return { ...command, ...anew }
  const [first, ...more] = command.drafts
  return { ...command, ...anew, drafts: [{ ...first, ...anew }, ...more.map((draft) => ({ ...draft, ...anew }))] }
}

/** What became of a question: the answer's bytes, or nothing that will ever come. */
type Outcome = Uint8Array | "lost" | GroupSilent

/** Questions that wait. Their answers come by themselves; that none will come, `settle` says to all of them at once. */
const questions = (connection: NatsConnection, subject: () => string) => {
  const open = new Set<(outcome: Outcome) => void>()
  const ask = (message: Uint8Array, headers: MsgHdrs | undefined): Effect.Effect<Outcome> =>
    Effect.callback<Outcome>((resume) => {
      const end = (outcome: Outcome): void => {
        if (open.delete(end)) resume(Effect.succeed(outcome))
      }
      open.add(end)
      const send = (): void => {
        if (!open.has(end) || connection.isClosed()) return
        connection.request(subject(), message, { timeout: ANSWER_MILLIS, ...(headers && { headers }) }).then(
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

/** The ranks' beats, in one epoch after the other. */
const watchBeats = Effect.fnUntraced(function* (
  { deployment, group, epoch: first, standby }: GroupOptions,
  again: () => void, // called when what was asked may not have been heard
) {
  const { connection, connected } = yield* Nats
  const { name, ranks } = group
  const heard = yield* SubscriptionRef.make<ReadonlyMap<number, RankBeat>>(new Map())
  const lost = yield* Deferred.make<GroupSilent>()
  const missed = new Map<number, number>()
  // A rank that is not back yet would not hear a command that its peers hear, and they would wait for it in vain.
  const gathered = Latch.makeUnsafe(true)
  const absent = new Set<number>() // not heard since the connection came back, or since the group was formed anew
  let epoch = first
  let unsubscribe = (): void => {}
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
  const runFork = Effect.runForkWith(yield* Effect.context())

  /** Given up, unless a standby takes the rank's place in time, or it is back by itself. */
  const miss = Effect.fnUntraced(function* (rank: number, reason: string) {
    if (standby?.() === true) {
      const before = epoch
      absent.add(rank)
      Latch.closeUnsafe(gathered)
      yield* Effect.sleep(PATIENCE_MILLIS)
      if (epoch !== before || !absent.has(rank)) return
    }
    yield* Deferred.succeed(lost, new GroupSilent({ group: name, reason }))
    Latch.openUnsafe(gathered)
  })

  const hear = Effect.fnUntraced(function* (message: Uint8Array) {
    const decoded = beats.decode(message)
    if (Result.isFailure(decoded)) return yield* Effect.logWarning(decoded.failure.message)
    const beat = decoded.success
    const { rank, pid } = beat
    if (beat.epoch !== epoch || rank >= ranks) return // of another time, or a standby's
    const before = SubscriptionRef.getUnsafe(heard).get(rank)
    missed.set(rank, 0)
    // Its host has started it again: quicker than a silence.
    if (before !== undefined && before.pid !== pid) runFork(miss(rank, `rank ${rank} has begun anew`))
    // It has lost its connection, unlike us, and is back: it may not have heard what it was asked.
    if (before?.pid === pid && before.connections < beat.connections) again()
    yield* SubscriptionRef.update(heard, (known) => new Map(known).set(rank, beat))
    if (beat.state === "ready" && absent.delete(rank) && absent.size === 0) {
      again()
      Latch.openUnsafe(gathered)
    }
  })
  const listen = (): void => {
    const subjects = groupSubjects({ deployment, epoch, group: name })
    const subscription = connection.subscribe(subjects.beats, {
      callback: (error, { data }) => void (error === null && runFork(hear(data))),
    })
    unsubscribe = () => subscription.unsubscribe()
    connection.publish(subjects.rollCall)
  }
  const move = Effect.fnUntraced(function* (next: number) {
    epoch = next
    unsubscribe()
    Latch.closeUnsafe(gathered)
    for (let rank = 0; rank < ranks; rank++) {
      absent.add(rank)
      missed.set(rank, -PATIENCE_MILLIS / BEAT_MILLIS) // as long as it may take to begin
    }
    yield* SubscriptionRef.set(heard, new Map())
    listen()
  })
  yield* Effect.acquireRelease(Effect.sync(listen), () => Effect.sync(() => unsubscribe()))
  // Ticks are counted, not time: a supervisor that was busy itself finds the beats in its socket before the next tick.
  const tick = Effect.gen(function* () {
    const up = yield* SubscriptionRef.get(connected)
    for (const [rank, beats] of missed) {
      missed.set(rank, up ? beats + 1 : 0)
      if (beats === BEATS_MISSED) runFork(miss(rank, `rank ${rank} was not heard for ${BEATS_MISSED * BEAT_MILLIS} ms`))
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
  return { beats: heard, ready, silent: Deferred.await(lost), gathered: Latch.await(gathered), move }
})

const isTagged = <T extends PassAnswer["_tag"]>(
  answer: PassAnswer,
  tag: T,
): answer is Extract<PassAnswer, { readonly _tag: T }> => answer._tag === tag

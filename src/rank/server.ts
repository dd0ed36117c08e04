// A rank at work: hears its group's commands and controls, runs one pass of a session at a time, and those of different
// sessions side by side.
import type { Msg, NatsConnection } from "@nats-io/transport-node"
import { Effect, Fiber, FiberSet, Result, Stream, SubscriptionRef } from "effect"
import { Nats } from "../fabric/nats.ts"
import { type Exchange, Peers } from "../fabric/peers.ts"
import { tracedAs } from "../fabric/telemetry.ts"
import { codec } from "../wire/codec.ts"
import { Cancelled, InvalidRequest, type PassError, WrongEpoch } from "../wire/errors.ts"
import { GroupControl, PassAnswer, PassCommand, type SessionCommand } from "../wire/pass.ts"
import { groupSubjects } from "../wire/subjects.ts"
import { type Deltas, tellStandby } from "./deltas.ts"
import { type Crew, execute, executeTogether } from "./execute.ts"
import { type PrepareError, passFailed } from "./sessions.ts"
import type { RunError } from "./strategy.ts"

/** A command has at most some hundred tokens, with their parents, of each of some hundred sessions. */
const MOST_BYTES = 1024 * 1024

const commands = codec("pass command", PassCommand, { mostBytes: MOST_BYTES })
const answers = codec("pass answer", PassAnswer)
const controls = codec("group control", GroupControl, { mostBytes: MOST_BYTES })

/** How long a drain waits for the passes that run. */
const DRAIN_MILLIS = 5_000

export interface ServerOptions {
  readonly deployment: string
  readonly epoch: number
  readonly crew: Crew
  readonly deltas: Deltas // of committed KV, to the group's standby
}

export interface Serving {
  /** Stops every pass without an answer: the group goes on in another epoch, where it is asked for again. */
  readonly abandon: Effect.Effect<void>
}

/** The newest pass of a session, or of several that run together. */
interface Lane {
  readonly command: PassCommand
  readonly parts: ReadonlyArray<SessionCommand> // one a session
  readonly askers: Array<Msg> // the command, and its repetitions
  readonly exchange: Exchange
  answer: Uint8Array | null
}

/** What a session is at: a pass, or its end. */
type Turn = { fiber: Fiber.Fiber<void> | null }

/** Serves until the scope closes; then the passes that run are finished first. */
export const serve = Effect.fnUntraced(function* ({ deployment, epoch, crew, deltas }: ServerOptions) {
  const { connection, connected } = yield* Nats
  const peers = yield* Peers
  const running = yield* FiberSet.make<void>()
  const fork = yield* FiberSet.runtime(running)()
  const lanes = new Map<string, Lane>()
  const turns = new Map<string, Turn>() // a session's last one: the next begins when it has ended
  const leads = crew.strategy.leader(crew.place.ranks) === crew.place.rank
  const { group, rank } = crew
  const tell = yield* tellStandby({ deployment, epoch, group, rank, compute: crew.compute, deltas })
  let abandoned = false

  const accept = (message: Msg): void => {
    const decoded = commands.decode(message.data)
    if (Result.isFailure(decoded)) return leads ? refuse(message, 0, decoded.failure) : undefined
    const command = decoded.success
    if (command.epoch !== epoch) {
      return refuse(message, command.pass, new WrongEpoch({ group, rank, expected: epoch, actual: command.epoch }))
    }
    const parts = command._tag === "DraftTogether" ? command.drafts : [command]
    const last = new Set(parts.flatMap(({ session }) => lanes.get(session) ?? []))
    const [same] = last
    if (same !== undefined && last.size === 1 && repeats(command, same.command)) {
      same.askers.push(message)
      return same.answer === null ? undefined : reply(message, same.answer)
    }
    for (const one of parts) {
      const before = lanes.get(one.session)?.parts.find(({ session }) => session === one.session)
      if (before === undefined || compare(one, before) > 0 || begins(one)) continue
      return leads ? refuse(message, command.pass, late(one, before)) : undefined
    }
    for (const { exchange } of last) exchange.close()
    const exchange = peers.exchange(command.pass, command.attempt)
    const lane: Lane = { command, parts, askers: [message], exchange, answer: null }
    for (const { session } of parts) lanes.set(session, lane)
    // The leader is still at the last pass only when nobody waits for its answer. Another rank may have its commit to finish.
    const sessions = parts.map(({ session }) => session)
    take(sessions, (before) => run(lane, before), leads ? "interrupt" : "wait")
  }

  /** Gives the next turn of one session, or of several, to `use`, which begins with what has to happen before: that the last ones end. */
  const take = (
    sessions: ReadonlyArray<string>,
    use: (before: Effect.Effect<void>) => Effect.Effect<void>,
    last: "interrupt" | "wait",
  ) => {
    const fibers = new Set(sessions.flatMap((session) => turns.get(session)?.fiber ?? []))
    const turn: Turn = { fiber: null }
    for (const session of sessions) turns.set(session, turn)
    const ended = last === "wait" ? Fiber.awaitAll([...fibers]) : Fiber.interruptAll([...fibers])
    const passOn = Effect.sync(() => {
      for (const session of sessions) if (turns.get(session) === turn) turns.delete(session)
    })
    // Uninterruptible: whatever becomes of a turn, the next one finds the session at rest.
    turn.fiber = fork(Effect.ensuring(use(Effect.uninterruptible(Effect.asVoid(ended))), passOn))
  }

  const traced = ({ askers: [message], command: { _tag, pass }, parts }: Lane) =>
    tracedAs(_tag, message?.headers, { group, rank, session: parts.map(({ session }) => session).join(), pass })

  /** Runs a pass and answers. A rank that does not lead answers only to refuse: the sender takes the first answer. */
  const run = (lane: Lane, before: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.andThen(
      before,
      Effect.suspend(() => begin(lane)),
    ).pipe(
      Effect.catchTag("ComputeFailed", ({ reason }) => Effect.fail(passFailed(crew, reason))),
      Effect.catchDefect((defect) => Effect.fail(passFailed(crew, String(defect)))),
      Effect.catchTag("Superseded", () => Effect.succeed(leads ? cancelled(lane) : null)),
      Effect.catch((error) => Effect.succeed(refused(lane.command.pass, error))),
      Effect.map((answer) => (answer === null ? undefined : settle(lane, answer))),
      Effect.onInterrupt(() => Effect.sync(() => (leads ? settle(lane, cancelled(lane)) : undefined))),
      Effect.ensuring(Effect.forEach(lane.parts, ({ session }) => tell(session), { discard: true })), // it is answered
      Effect.ensuring(Effect.sync(() => leave(lane))),
    )

  const begin = (lane: Lane) => {
    for (const command of lane.parts) deltas.begin(command)
    return traced(lane)(answerOf(lane))
  }

  const answerOf = ({ command, exchange }: Lane): Effect.Effect<PassAnswer | null, PrepareError | RunError> =>
    command._tag === "DraftTogether" ? executeTogether(crew, exchange, command) : execute(crew, exchange, command)

  const settle = (lane: Lane, answer: PassAnswer): void => {
    if (abandoned) return
    const encoded = answers.encode(answer)
    lane.answer = encoded
    for (const message of lane.askers) reply(message, encoded)
  }

  /** What was said to a connection that was down, nobody has heard. Who has heard it does not listen any more. */
  const repeatAnswers = (): void => {
    for (const { askers, answer } of lanes.values()) {
      if (answer !== null) for (const message of askers) reply(message, answer)
    }
  }

  const leave = (lane: Lane): void => {
    lane.exchange.close()
    const open = crew.compute.sessions()
    for (const { session } of lane.parts) {
      if (lanes.get(session) === lane && !open.includes(session)) lanes.delete(session)
    }
  }

  const control = (message: Msg): void => {
    const decoded = controls.decode(message.data)
    if (Result.isFailure(decoded)) return void fork(Effect.logWarning(decoded.failure.message))
    const { _tag, session } = decoded.success
    const lane = lanes.get(session)
    const alone = lane === undefined || lane.parts.length === 1
    if (alone) lane?.exchange.close() // others' drafts are not stopped for one: it is closed when they have ended
    lanes.delete(session)
    deltas.forget(session)
    const free = crew.compute.close(session)
    const close = (before: Effect.Effect<void>) => Effect.uninterruptible(Effect.andThen(before, free))
    take([session], close, _tag === "Abort" && alone ? "interrupt" : "wait")
  }

  const subjects = groupSubjects({ deployment, epoch, group })
  yield* SubscriptionRef.changes(connected).pipe(
    Stream.drop(1), // as it is now
    Stream.filter((up) => up),
    Stream.runForEach(() => Effect.sync(repeatAnswers)),
    Effect.forkScoped,
  )
  yield* Effect.addFinalizer(() => FiberSet.awaitEmpty(running).pipe(Effect.timeoutOption(DRAIN_MILLIS)))
  yield* subscribe(connection, subjects.control, control)
  yield* subscribe(connection, subjects.pass, accept)
  yield* Effect.promise(() => connection.flush()) // the server knows of the subscriptions before anyone is told "ready"
  const serving: Serving = {
    abandon: Effect.suspend(() => {
      abandoned = true
      for (const { exchange } of lanes.values()) exchange.close()
      return FiberSet.clear(running)
    }),
  }
  return serving
})

const subscribe = (connection: NatsConnection, subject: string, hear: (message: Msg) => void) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      connection.subscribe(subject, { callback: (error, message) => (error === null ? hear(message) : undefined) }),
    ),
    // Drained: a command that the server has delivered already is heard, since the other ranks have heard it.
    (subscription) => Effect.tryPromise(() => subscription.drain()).pipe(Effect.timeout("1 second"), Effect.ignore),
  )

const reply = (message: Msg, answer: Uint8Array): void => void message.respond(answer)

const refused = (pass: number, error: PassError): PassAnswer => ({ _tag: "Refused", pass, error })

const refuse = (message: Msg, pass: number, error: PassError): void =>
  reply(message, answers.encode(refused(pass, error)))

const cancelled = ({ command, parts }: Lane): PassAnswer =>
  refused(command.pass, new Cancelled({ session: parts[0]?.session ?? "" }))

type Numbered = Pick<PassCommand, "pass" | "attempt">

/** Whether a command is the same as the one before, asked for again. */
const repeats = (command: PassCommand, before: PassCommand): boolean =>
  command._tag === before._tag && compare(command, before) === 0

/** Above 0 where `a` is newer than `b`. */
const compare = (a: Numbered, b: Numbered): number => a.pass - b.pass || a.attempt - b.attempt

/** Whether a command begins its session anew, so that what was before does not count. */
const begins = (command: SessionCommand): boolean =>
  command._tag === "Prefill" && (command.committed === 0 || command.from !== undefined)

const late = (command: Numbered, last: Numbered) =>
  new InvalidRequest({
    field: "pass",
    reason: `is ${command.pass}, attempt ${command.attempt}; the session is at ${last.pass}, attempt ${last.attempt}`,
  })

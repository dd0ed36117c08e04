// A rank at work: hears its group's commands and controls, runs one pass of a session at a time, and those of different
// sessions side by side.
import type { Msg, NatsConnection } from "@nats-io/transport-node"
import { Effect, Fiber, FiberSet, Result, Stream, SubscriptionRef } from "effect"
import { Nats } from "../fabric/nats.ts"
import { type Exchange, Peers } from "../fabric/peers.ts"
import { codec } from "../wire/codec.ts"
import { Cancelled, InvalidRequest, type PassError, WrongEpoch } from "../wire/errors.ts"
import { GroupControl, PassAnswer, PassCommand } from "../wire/pass.ts"
import { subjectsOf } from "../wire/subjects.ts"
import { type Crew, execute } from "./execute.ts"
import { passFailed } from "./sessions.ts"

const commands = codec("pass command", PassCommand)
const answers = codec("pass answer", PassAnswer)
const controls = codec("group control", GroupControl)

/** How long a drain waits for the passes that run. */
const DRAIN_MILLIS = 5_000

export interface ServerOptions {
  readonly deployment: string
  readonly epoch: number
  readonly crew: Crew
}

/** The newest pass of a session. */
interface Lane {
  readonly command: PassCommand
  readonly askers: Array<Msg> // the command, and its repetitions
  readonly exchange: Exchange
  answer: Uint8Array | null
}

/** What a session is at: a pass, or its end. */
type Turn = { fiber: Fiber.Fiber<void> | null }

/** Serves until the scope closes; then the passes that run are finished first. */
export const serve = Effect.fnUntraced(function* ({ deployment, epoch, crew }: ServerOptions) {
  const { connection, connected } = yield* Nats
  const peers = yield* Peers
  const running = yield* FiberSet.make<void>()
  const fork = yield* FiberSet.runtime(running)()
  const lanes = new Map<string, Lane>()
  const turns = new Map<string, Turn>() // a session's last one: the next begins when it has ended
  const leads = crew.strategy.leader(crew.place.ranks) === crew.place.rank
  const { group, rank } = crew

  const accept = (message: Msg): void => {
    const decoded = commands.decode(message.data)
    if (Result.isFailure(decoded)) return leads ? refuse(message, 0, decoded.failure) : undefined
    const command = decoded.success
    if (command.epoch !== epoch) {
      return refuse(message, command.pass, new WrongEpoch({ group, rank, expected: epoch, actual: command.epoch }))
    }
    const last = lanes.get(command.session)
    const age = last === undefined ? 1 : compare(command, last.command)
    if (last !== undefined && age === 0) {
      last.askers.push(message)
      return last.answer === null ? undefined : reply(message, last.answer)
    }
    if (last !== undefined && age < 0 && !begins(command)) {
      return leads ? refuse(message, command.pass, late(command, last.command)) : undefined
    }
    last?.exchange.close()
    const exchange = peers.exchange(command.pass, command.attempt)
    const lane: Lane = { command, askers: [message], exchange, answer: null }
    lanes.set(command.session, lane)
    // The leader is still at the last pass only when nobody waits for its answer. Another rank may have its commit to finish.
    take(command.session, (before) => run(lane, before), leads ? "interrupt" : "wait")
  }

  /** Gives a session's next turn to `use`, which begins with what has to happen before: that the last one ends. */
  const take = (
    session: string,
    use: (before: Effect.Effect<void>) => Effect.Effect<void>,
    last: "interrupt" | "wait",
  ) => {
    const fiber = turns.get(session)?.fiber ?? null
    const turn: Turn = { fiber: null }
    turns.set(session, turn)
    const ended = fiber === null ? Effect.void : last === "wait" ? Fiber.await(fiber) : Fiber.interrupt(fiber)
    const passOn = Effect.sync(() => (turns.get(session) === turn ? turns.delete(session) : undefined))
    // Uninterruptible: whatever becomes of a turn, the next one finds the session at rest.
    turn.fiber = fork(Effect.ensuring(use(Effect.uninterruptible(Effect.asVoid(ended))), passOn))
  }

  /** Runs a pass and answers. A rank that does not lead answers only to refuse: the sender takes the first answer. */
  const run = (lane: Lane, before: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.andThen(before, execute(crew, lane.exchange, lane.command)).pipe(
      Effect.catchTag("ComputeFailed", ({ reason }) => Effect.fail(passFailed(crew, reason))),
      Effect.catchDefect((defect) => Effect.fail(passFailed(crew, String(defect)))),
      Effect.catchTag("Superseded", () => Effect.succeed(leads ? cancelled(lane.command) : null)),
      Effect.catch((error) => Effect.succeed(refused(lane.command.pass, error))),
      Effect.map((answer) => (answer === null ? undefined : settle(lane, answer))),
      Effect.onInterrupt(() => Effect.sync(() => (leads ? settle(lane, cancelled(lane.command)) : undefined))),
      Effect.ensuring(Effect.sync(() => leave(lane))),
    )

  const settle = (lane: Lane, answer: PassAnswer): void => {
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
    const { session } = lane.command
    if (lanes.get(session) === lane && !crew.compute.sessions().includes(session)) lanes.delete(session)
  }

  const control = (message: Msg): void => {
    const decoded = controls.decode(message.data)
    if (Result.isFailure(decoded)) return void fork(Effect.logWarning(decoded.failure.message))
    const { _tag, session } = decoded.success
    lanes.get(session)?.exchange.close()
    lanes.delete(session)
    const free = crew.compute.close(session)
    const close = (before: Effect.Effect<void>) => Effect.uninterruptible(Effect.andThen(before, free))
    take(session, close, _tag === "Abort" ? "interrupt" : "wait")
  }

  const subjects = subjectsOf(deployment)
  yield* SubscriptionRef.changes(connected).pipe(
    Stream.drop(1), // as it is now
    Stream.filter((up) => up),
    Stream.runForEach(() => Effect.sync(repeatAnswers)),
    Effect.forkScoped,
  )
  yield* Effect.addFinalizer(() => FiberSet.awaitEmpty(running).pipe(Effect.timeoutOption(DRAIN_MILLIS)))
  yield* subscribe(connection, subjects.control(group), control)
  yield* subscribe(connection, subjects.pass(group), accept)
  yield* Effect.promise(() => connection.flush()) // the server knows of the subscriptions before anyone is told "ready"
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

const cancelled = ({ pass, session }: PassCommand): PassAnswer => refused(pass, new Cancelled({ session }))

/** Above 0 where `a` is newer than `b`. */
const compare = (a: PassCommand, b: PassCommand): number => a.pass - b.pass || a.attempt - b.attempt

/** Whether a command begins its session anew, so that what was before does not count. */
const begins = (command: PassCommand): boolean =>
  command._tag === "Prefill" && (command.committed === 0 || command.from !== undefined)

const late = (command: PassCommand, last: PassCommand) =>
  new InvalidRequest({
    field: "pass",
    reason: `is ${command.pass}, attempt ${command.attempt}; the session is at ${last.pass}, attempt ${last.attempt}`,
  })

// A rank at work: hears its group's commands and controls, runs one pass of a session at a time, and those of different
// sessions side by side.
import type { Msg, NatsConnection } from "@nats-io/transport-node"
import { Effect, Fiber, FiberSet, Result } from "effect"
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
  readonly message: Msg
  readonly exchange: Exchange
  answer: Uint8Array | null
  fiber: Fiber.Fiber<void> | null
}

/** Serves until the scope closes; then the passes that run are finished first. */
export const serve = Effect.fnUntraced(function* ({ deployment, epoch, crew }: ServerOptions) {
  const { connection } = yield* Nats
  const peers = yield* Peers
  const running = yield* FiberSet.make<void>()
  const fork = yield* FiberSet.runtime(running)()
  const lanes = new Map<string, Lane>()
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
    if (last !== undefined && age === 0) return last.answer === null ? undefined : reply(message, last.answer)
    if (last !== undefined && age < 0 && !begins(command)) {
      return leads ? refuse(message, command.pass, late(command, last.command)) : undefined
    }
    last?.exchange.close()
    const exchange = peers.exchange(command.pass, command.attempt)
    const lane: Lane = { command, message, exchange, answer: null, fiber: null }
    lanes.set(command.session, lane)
    lane.fiber = fork(Effect.andThen(finished(last), run(lane)))
  }

  /** Runs a pass and answers. A rank that does not lead answers only to refuse: the sender takes the first answer. */
  const run = (lane: Lane): Effect.Effect<void> =>
    execute(crew, lane.exchange, lane.command).pipe(
      Effect.catchTag("ComputeFailed", ({ reason }) => Effect.fail(passFailed(crew, reason))),
      Effect.catchDefect((defect) => Effect.fail(passFailed(crew, String(defect)))),
      Effect.catchTag("Superseded", () => Effect.succeed(null)),
      Effect.catch((error) => Effect.succeed(refused(lane.command.pass, error))),
      Effect.map((answer) => {
        if (answer === null) return
        lane.answer = answers.encode(answer)
        reply(lane.message, lane.answer)
      }),
      Effect.onInterrupt(() => Effect.sync(() => (leads ? cancelled(lane) : undefined))),
      Effect.ensuring(Effect.sync(() => leave(lane))),
    )

  const leave = (lane: Lane): void => {
    lane.exchange.close()
    const { session } = lane.command
    if (lanes.get(session) === lane && !crew.compute.sessions().includes(session)) lanes.delete(session)
  }

  const control = (message: Msg): void => {
    const decoded = controls.decode(message.data)
    if (Result.isFailure(decoded)) return void fork(Effect.logWarning(decoded.failure.message))
    const { _tag, session } = decoded.success
    const lane = lanes.get(session)
    lanes.delete(session)
    lane?.exchange.close()
    const stopped = _tag === "Abort" && lane?.fiber ? Fiber.interrupt(lane.fiber) : finished(lane)
    fork(Effect.andThen(stopped, crew.compute.close(session)))
  }

  const subjects = subjectsOf(deployment)
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
    (subscription) => Effect.sync(() => subscription.unsubscribe()),
  )

const finished = (lane: Lane | undefined) => (lane?.fiber ? Fiber.await(lane.fiber) : Effect.void)

const reply = (message: Msg, answer: Uint8Array): void => void message.respond(answer)

const refused = (pass: number, error: PassError): PassAnswer => ({ _tag: "Refused", pass, error })

const refuse = (message: Msg, pass: number, error: PassError): void =>
  reply(message, answers.encode(refused(pass, error)))

const cancelled = ({ message, command: { pass, session } }: Lane): void =>
  refuse(message, pass, new Cancelled({ session }))

/** Above 0 where `a` is newer than `b`. */
const compare = (a: PassCommand, b: PassCommand): number => a.pass - b.pass || a.attempt - b.attempt

/** Whether a command begins its session anew, so that what was before does not count. */
const begins = (command: PassCommand): boolean => command._tag === "Prefill" && command.committed === 0

const late = (command: PassCommand, last: PassCommand) =>
  new InvalidRequest({
    field: "pass",
    reason: `is ${command.pass}, attempt ${command.attempt}; the session is at ${last.pass}, attempt ${last.attempt}`,
  })

// Performs what queue.ts decides: a fibre for each turn, an exchange for each pass.
import { Effect, Exit, type Fiber, FiberSet } from "effect"
import type { Exchange } from "../../group/exchange.ts"
import type { Send } from "../../wire/kv.ts"
import type { GroupControl, PassAnswer, PassCommand } from "../../wire/pass.ts"
import type { StandbyFeed } from "../kv/standbyFeed.ts"
import type { RunError } from "../strategy/strategy.ts"
import { execute, type RankContext } from "./execute.ts"
import { type PrepareError, passFailed } from "./prepare.ts"
import { type Lane, PassQueue, type QueueAction, refused, TICK_MILLIS, type Turn } from "./queue.ts"

/** How long a drain waits for the passes that run. */
const DRAIN_MILLIS = 5_000

export interface RunnerOptions<Asker> {
  readonly epoch: number
  readonly rankContext: RankContext
  readonly exchange: (pass: number, attempt: number) => Exchange
  readonly answer: (askers: ReadonlyArray<Asker>, answer: PassAnswer) => void
  readonly traced: (lane: Lane<Asker>) => <A, E>(pass: Effect.Effect<A, E>) => Effect.Effect<A, E>
  readonly standbyFeed: Pick<StandbyFeed, "begin" | "forget">
  /** To be done for a session after each pass of it, which is answered by then. */
  readonly tell: (session: string) => Effect.Effect<void>
  /** Gives rows of a session that is at rest. */
  readonly give: (wish: Send) => Effect.Effect<void>
}

export interface Runner<Asker> {
  readonly command: (command: PassCommand, asker: Asker) => void
  readonly control: (control: GroupControl) => void
  readonly give: (wish: Send) => void
  readonly reconnected: () => void
  /** Ends when every pass has been stopped, without an answer. */
  readonly abandon: Effect.Effect<void>
}

/** At work until the scope closes; then the passes that run are finished first. */
export const passRunner = Effect.fnUntraced(function* <Asker>({
  rankContext,
  epoch,
  ...options
}: RunnerOptions<Asker>) {
  const { group, rank, compute, strategy, layout } = rankContext
  const running = yield* FiberSet.make<void>()
  const fork = yield* FiberSet.runtime(running)()
  const passes = new PassQueue<Asker>({ group, rank, epoch, leads: strategy.leader(layout.ranks) === rank })
  const exchanges = new WeakMap<Lane<Asker>, Exchange>()
  const fibers = new Map<Turn<Asker>, Fiber.Fiber<void>>()

  const perform = (actions: ReadonlyArray<QueueAction<Asker>>): void => {
    for (const action of actions) {
      switch (action._tag) {
        case "Open":
          exchanges.set(action.lane, options.exchange(action.lane.command.pass, action.lane.command.attempt))
          break
        case "Leave":
          exchanges.get(action.lane)?.close()
          break
        case "Begin":
          begin(action.turn)
          break
        case "Stop":
          fibers.get(action.turn)?.interruptUnsafe()
          break
        case "Answer":
          options.answer(action.askers, action.answer)
      }
    }
  }

  const begin = (turn: Turn<Asker>): void => {
    const ended = Effect.sync(() => {
      fibers.delete(turn)
      perform(passes.ended(turn, compute.holds))
    })
    // Uninterruptible after the pass: whatever becomes of it, the next one finds its sessions at rest.
    const fiber = fork(Effect.ensuring(doing(turn), ended))
    if (fiber.pollUnsafe() === undefined) fibers.set(turn, fiber)
  }

  const doing = (turn: Turn<Asker>): Effect.Effect<void> => {
    switch (turn._tag) {
      case "Pass":
        return run(turn.lane)
      case "Free":
        return free(turn.session)
      case "Give":
        return options.give(turn.wish)
    }
  }

  const free = (session: string): Effect.Effect<void> => {
    options.standbyFeed.forget(session)
    return Effect.uninterruptible(compute.close(session))
  }

  /** A rank that does not lead answers only to refuse: the sender takes the first answer. */
  const run = (lane: Lane<Asker>): Effect.Effect<void> => {
    options.standbyFeed.begin(lane.command)
    return options
      .traced(lane)(answerOf(lane))
      .pipe(
        Effect.catchTag("ComputeFailed", ({ reason }) => Effect.fail(passFailed(rankContext, reason))),
        Effect.catchDefect((defect) => Effect.fail(passFailed(rankContext, String(defect)))),
        Effect.catchTag("Superseded", () => Effect.succeed("stopped" as const)),
        Effect.catch((error) => Effect.succeed(refused(lane.command.pass, error))),
        Effect.onExit((exit) =>
          Effect.sync(() => perform(passes.settled(lane, Exit.isSuccess(exit) ? exit.value : "stopped"))),
        ),
        Effect.ensuring(Effect.forEach(lane.sessions, options.tell, { discard: true })),
        Effect.asVoid,
      )
  }

  const answerOf = (lane: Lane<Asker>): Effect.Effect<PassAnswer | null, PrepareError | RunError> => {
    const exchange = exchanges.get(lane)
    if (exchange === undefined) return Effect.die("a pass that begins has its exchange")
    return execute(rankContext, exchange, lane.command)
  }

  const tick = Effect.sync(() => perform(passes.tick(compute.sessions())))
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(TICK_MILLIS), tick)))
  yield* Effect.addFinalizer(() => FiberSet.awaitEmpty(running).pipe(Effect.timeoutOption(DRAIN_MILLIS)))
  const working: Runner<Asker> = {
    command: (command, asker) => perform(passes.command(command, asker)),
    control: (control) => perform(passes.control(control)),
    give: (wish) => perform(passes.give(wish)),
    reconnected: () => perform(passes.reconnected(compute.sessions())),
    abandon: Effect.suspend(() => {
      perform(passes.abandon())
      return FiberSet.awaitEmpty(running)
    }),
  }
  return working
})

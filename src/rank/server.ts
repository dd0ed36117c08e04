// A rank at work: hears its group's commands and controls over NATS, and answers there.
import { Effect, Result, Stream, SubscriptionRef } from "effect"
import { Bus, type Message, settled } from "../bus/bus.ts"
import { tracedAs } from "../bus/telemetry.ts"
import { Peers } from "../group/exchange.ts"
import { codec } from "../wire/codec.ts"
import { wishes } from "../wire/kv.ts"
import { GroupControl, PassAnswer, PassCommand } from "../wire/pass.ts"
import { groupSubjects } from "../wire/subjects.ts"
import { type StandbyFeed, tellStandby } from "./kv/standbyFeed.ts"
import type { Transfer } from "./kv/transfer.ts"
import type { RankContext } from "./pass/execute.ts"
import { passFailed } from "./pass/prepare.ts"
import { type Lane, refused } from "./pass/queue.ts"
import { passRunner } from "./pass/runner.ts"

/** A command has at most some hundred tokens, with their parents, of each of some hundred sessions. */
const MOST_BYTES = 1024 * 1024

const commands = codec("pass command", PassCommand, { mostBytes: MOST_BYTES })
const answers = codec("pass answer", PassAnswer)
const controls = codec("group control", GroupControl, { mostBytes: MOST_BYTES })

export interface ServerOptions {
  readonly deployment: string
  readonly epoch: number
  readonly rankContext: RankContext
  readonly standbyFeed: StandbyFeed // of committed KV, to the group's standby
  readonly transfer: Pick<Transfer, "wished" | "give"> // committed KV, to other groups
}

export interface Serving {
  /** Stops every pass without an answer: the group goes on in another epoch, where it is asked for again. */
  readonly abandon: Effect.Effect<void>
}

/** Serves until the scope closes; then the passes that run are finished first. */
export const serve = Effect.fnUntraced(function* ({
  deployment,
  epoch,
  rankContext,
  standbyFeed,
  transfer,
}: ServerOptions) {
  const bus = yield* Bus
  const peers = yield* Peers
  const { group, rank, strategy, layout } = rankContext
  const tell = tellStandby(bus, { deployment, epoch, group, rank, compute: rankContext.compute, standbyFeed })
  const answer = (askers: ReadonlyArray<Message>, answer: PassAnswer): void => {
    const limit = bus.maxPayload()
    // Without an answer the pass would be asked for again and again.
    const encoded = answers.encodeWithin(limit, answer, (bytes) => {
      const reason = `its answer has ${bytes} bytes, max_payload of nats-server is ${limit}. Raise it`
      return refused(answer.pass, passFailed(rankContext, reason))
    })
    for (const asker of askers) bus.respond(asker, encoded)
  }
  const runner = yield* passRunner<Message>({
    ...{ epoch, rankContext, answer, exchange: peers.exchange, standbyFeed, tell, give: transfer.give },
    traced: ({ askers: [message], command: { _tag, pass }, sessions }: Lane<Message>) => {
      return (effect) => tracedAs(_tag, message?.headers, { group, rank, session: sessions.join(), pass })(effect)
    },
  })
  const leads = strategy.leader(layout.ranks) === rank
  const runFork = Effect.runForkWith(yield* Effect.context())

  const hearCommand = (message: Message): void => {
    const command = commands.decode(message.data)
    if (Result.isSuccess(command)) runner.command(command.success, message)
    else if (leads) answer([message], refused(0, command.failure))
  }
  const hearControl = (message: Message): void => {
    const control = controls.decode(message.data)
    if (Result.isSuccess(control)) runner.control(control.success)
    else runFork(Effect.logWarning(control.failure.message))
  }

  const hearWish = ({ data }: Message): void => {
    const wish = wishes.decode(data)
    if (Result.isFailure(wish)) return void runFork(Effect.logWarning(wish.failure.message))
    standbyFeed.hear(wish.success, rank)
    const send = transfer.wished(wish.success)
    if (send !== null) runner.give(send)
  }

  const subjects = groupSubjects({ deployment, epoch, group })
  yield* SubscriptionRef.changes(bus.connected).pipe(
    Stream.drop(1), // as it is now
    Stream.filter((up) => up),
    Stream.runForEach(() => Effect.sync(runner.reconnected)),
    Effect.forkScoped,
  )
  // Drained: a command that the server has delivered already is heard, since the other ranks have heard it.
  const drained = { drains: true }
  yield* bus.subscribe(subjects.kvWish, hearWish, drained)
  yield* bus.subscribe(subjects.control, hearControl, drained)
  yield* bus.subscribe(subjects.pass, hearCommand, drained)
  yield* settled(bus) // the server knows of the subscriptions before anyone is told "ready"
  const serving: Serving = { abandon: runner.abandon }
  return serving
})

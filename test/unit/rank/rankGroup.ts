// A group of ranks in one process: the product's passes, strategies and exchanges, on the hash engine and on a transport that
// hands messages over at once. A token shows whether every rank held exactly the KV that it should (test/simulation/engine.ts).
import { Effect, SubscriptionRef } from "effect"
import { Exchange, receiver } from "../../../src/group/exchange.ts"
import { type Group, passesOf } from "../../../src/group/group.ts"
import { Inbox } from "../../../src/group/inbox.ts"
import { execute, type RankContext } from "../../../src/rank/pass/execute.ts"
import { refused } from "../../../src/rank/pass/queue.ts"
import { ownersOf, type Split, STRATEGIES } from "../../../src/rank/strategy/strategies.ts"
import type { RankBeat } from "../../../src/wire/beat.ts"
import type { GroupControl, PassAnswer, PassCommand } from "../../../src/wire/pass.ts"
import { END, HashEngine, type ModelShape, VOCABULARY } from "../../simulation/engine.ts"

interface Rank {
  readonly context: RankContext
  readonly inbox: Inbox
  readonly engine: HashEngine
  readonly hear: (message: Uint8Array) => void
}

const EPOCH = 0

export class RankGroup {
  readonly name: string
  readonly carried = { messages: 0, bytes: 0 } // by the transport, so far
  readonly #ranks: ReadonlyArray<Rank>
  readonly #leader: number

  constructor(name: string, split: Split, model: ModelShape, fuzzy: number) {
    this.name = name
    const strategy = STRATEGIES[split.strategy]
    const owners = ownersOf(split, model.layers, fuzzy)
    this.#leader = strategy.leader(split.ranks)
    this.#ranks = Array.from({ length: split.ranks }, (_, rank): Rank => {
      const engine = new HashEngine(model, () => 0, null)
      const inbox = new Inbox({ earlyBytes: 2 ** 20, endedPasses: 64 })
      const context = {
        group: name,
        rank,
        compute: engine.compute,
        strategy,
        vocabulary: VOCABULARY,
        isEnd: (token: number) => token === END,
        bounds: { vocab: VOCABULARY, context: 4096, maxRows: 512 },
        layout: { rank, ranks: split.ranks, layers: model.layers, width: 1, owners },
      }
      return {
        context,
        inbox,
        engine,
        hear: receiver(inbox, EPOCH, (failure) => {
          throw failure
        }),
      }
    })
  }

  /** Sessions that some rank still holds. */
  get sessions(): ReadonlyArray<string> {
    return [...new Set(this.#ranks.flatMap(({ engine }) => engine.sessions()))]
  }

  /** Runs a command on every rank to its end, and gives the leader's answer. */
  command(command: PassCommand): Effect.Effect<PassAnswer> {
    return Effect.forEach(this.#ranks, (rank) => this.#run(rank, command), { concurrency: "unbounded" }).pipe(
      Effect.map((answers) => answers.find((answer) => answer?._tag === "Refused") ?? answers[this.#leader] ?? null),
      Effect.flatMap((answer) => (answer === null ? Effect.die("the leader has no answer") : Effect.succeed(answer))),
    )
  }

  /** As a generation has it. */
  group(): Group {
    const passes = passesOf({ group: this.name, last: 0 }, (command) =>
      Effect.map(this.command(command), (outcome) => ({ outcome, bytes: 0 })),
    )
    return {
      name: this.name,
      ...passes,
      control: (control) => this.#control(control),
      beats: Effect.runSync(SubscriptionRef.make<ReadonlyMap<number, RankBeat>>(new Map())),
      ready: Effect.void,
      silent: Effect.never,
      move: () => Effect.void,
      epoch: () => EPOCH,
    }
  }

  #control({ session }: GroupControl): Effect.Effect<void> {
    return Effect.forEach(this.#ranks, ({ context }) => context.compute.close(session), { discard: true })
  }

  #run({ context, inbox }: Rank, command: PassCommand): Effect.Effect<PassAnswer | null> {
    const { group, rank } = context
    const { pass, attempt } = command
    const transport = {
      send: (to: number | "all", message: Uint8Array) => {
        this.carried.messages += 1
        this.carried.bytes += message.byteLength
        for (const peer of this.#ranks) {
          if (peer.context.rank !== rank && (to === "all" || to === peer.context.rank)) peer.hear(message)
        }
      },
      maxPayload: () => 2 ** 20,
    }
    const options = { deployment: "unit", group, rank, epoch: EPOCH, pass, attempt }
    return Effect.suspend(() => {
      const exchange = new Exchange(options, inbox, transport)
      return execute(context, exchange, command).pipe(
        Effect.catchTags({
          ComputeFailed: (failure) => Effect.die(failure),
          Superseded: (failure) => Effect.die(failure),
        }),
        Effect.catch((error) => Effect.succeed(refused(pass, error))),
        Effect.ensuring(Effect.sync(() => exchange.close())),
      )
    })
  }
}

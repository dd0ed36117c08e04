// A simulated rank: the product's passes, strategies and exchanges, on the hash engine and the simulated network.
import { Effect, Result } from "effect"
import { Exchange, receiver } from "../../src/group/exchange.ts"
import { Inbox } from "../../src/group/inbox.ts"
import type { Transport } from "../../src/group/transport/transport.ts"
import { transfer } from "../../src/rank/kv/transfer.ts"
import { passRunner, type Runner } from "../../src/rank/pass/runner.ts"
import { ownersOf, STRATEGIES } from "../../src/rank/strategy/strategies.ts"
import { BEAT_MILLIS } from "../../src/wire/beat.ts"
import type { Strategy } from "../../src/wire/deployment.ts"
import { wishes } from "../../src/wire/kv.ts"
import type { GroupControl, PassAnswer, PassCommand } from "../../src/wire/pass.ts"
import { END, HashEngine, type ModelShape, VOCABULARY } from "./engine.ts"
import type { Mutation } from "./mutation.ts"
import type { Network } from "./network.ts"
import type { Process } from "./world.ts"

export interface GroupShape {
  readonly group: "base" | "draft" | "prefill"
  readonly replica: number // its epoch
  readonly strategy: Strategy
  readonly ranks: number
  readonly model: ModelShape
  readonly fuzzy: number
}

/** The asker, and how it hears the answer. */
export interface Asking {
  readonly from: Process
  readonly heard: (answer: PassAnswer) => void
}

/** The passes' way in: what is published to a group reaches every rank of it. */
export interface RankActor {
  readonly shape: GroupShape
  readonly rank: number
  readonly process: Process
  readonly engine: HashEngine
  readonly command: (command: PassCommand, asking: Asking) => void
  readonly control: (control: GroupControl) => void
  readonly activation: (message: Uint8Array) => void
  /** A rank of another group wants rows, or gives them. */
  readonly wish: (message: Uint8Array) => void
  readonly rows: (message: Uint8Array) => void
}

export interface RankOptions {
  readonly shape: GroupShape
  readonly rank: number
  readonly process: Process
  readonly network: Network
  readonly computeMillis: () => number
  readonly peers: () => ReadonlyArray<RankActor> // of the group, as they are now
  readonly others: (replica: number, group: string) => ReadonlyArray<RankActor> // of another one
  readonly beat: (rank: RankActor) => void
  readonly mutation: Mutation | null
}

const WIDTH = 1
const SMALL_PAYLOAD = 256 // so that rows come in parts
const WISHES = 10_000 // of one process, at most
const INBOX = { earlyBytes: 2 ** 20, endedPasses: 64 }

export const startRank = ({ shape, rank, process, network, ...options }: RankOptions): RankActor => {
  const { group, replica: epoch, strategy, ranks, model, fuzzy } = shape
  const { mutation } = options
  const engine = new HashEngine(model, options.computeMillis, mutation)
  const inbox = new Inbox(INBOX)
  const transport: Transport = {
    send: (to, message) => {
      for (const peer of options.peers()) {
        if (peer.process === process || (to !== "all" && peer.rank !== to)) continue
        network.send(process, peer.process, () => peer.activation(message))
      }
    },
    maxPayload: () => 2 ** 20,
  }
  const move = transfer({
    ...{ epoch, group, rank, shard: `${rank} of ${ranks}`, compute: engine.compute },
    ask: (source, wish) => {
      for (const other of options.others(source.epoch, source.group)) {
        if (other.process !== process) network.send(process, other.process, () => other.wish(wish))
      }
    },
    give: (target, rows) => {
      for (const other of options.others(target.epoch, target.group)) {
        if (other.rank === rank) network.send(process, other.process, () => other.rows(rows))
      }
    },
    maxPayload: () => SMALL_PAYLOAD,
    wishes: process.pid * WISHES,
  })
  let runner: Runner<Asking> | null = null
  let latest: Asking | null = null
  let newest = 0
  const rankContext = {
    ...{
      group,
      rank,
      compute: engine.compute,
      fetch: move.fetch,
      strategy: STRATEGIES[strategy],
      vocabulary: VOCABULARY,
    },
    isEnd: (token: number) => token === END,
    bounds: { vocab: VOCABULARY, context: 4096, maxRows: 512 },
    layout: { rank, ranks, layers: model.layers, width: WIDTH, owners: ownersOf(shape, model.layers, fuzzy) },
  }
  const serving = Effect.gen(function* () {
    runner = yield* passRunner<Asking>({
      ...{ epoch, rankContext },
      exchange: (pass, attempt) =>
        new Exchange({ deployment: "simulated", group, rank, epoch, pass, attempt }, inbox, transport),
      answer: (askers, answer) => {
        for (const asker of askers) {
          const { from, heard } = mutation === "a rank's answer reaches whoever asked last" ? (latest ?? asker) : asker
          network.send(process, from, () => heard(answer))
        }
      },
      traced: () => (pass) => pass,
      standbyFeed: { begin: () => {}, forget: () => {} },
      tell: () => Effect.void,
      give: move.give,
    })
    return yield* Effect.never
  })
  process.fork(Effect.scoped(serving))
  network.onEvent(process, (up) => (up ? runner?.reconnected() : inbox.closeAll()))
  const mutated = (command: PassCommand): PassCommand =>
    mutation === "ranks take old attempts for new ones" ? { ...command, attempt: newest++ } : command
  const actor: RankActor = {
    ...{ shape, rank, process, engine },
    command: (command, asking) => {
      latest = asking
      runner?.command(mutated(command), asking)
    },
    control: (control) => runner?.control(control),
    activation: receiver(inbox, epoch, () => {}),
    wish: (message) => {
      const wish = move.wished(Result.getOrThrow(wishes.decode(message)))
      if (wish !== null) runner?.give(wish)
    },
    rows: move.delivered,
  }
  const beat = (): void => {
    options.beat(actor)
    process.after(BEAT_MILLIS, beat)
  }
  process.after(0, beat)
  return actor
}

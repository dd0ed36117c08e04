// One rank from its options: opens the model, loads its shard, and serves until the scope closes. It beats from the first
// moment, so that whoever waits sees the loading, or why it failed.
import { Effect, Layer } from "effect"
import { Nats } from "../fabric/nats.ts"
import { Peers } from "../fabric/peers.ts"
import { type Model, open } from "../model/index.ts"
import type { Deployment, Group } from "../wire/deployment.ts"
import { Compute } from "./compute.ts"
import { STRATEGIES } from "./execute.ts"
import { firstPass } from "./firstPass.ts"
import { describeShard, ownersOf, shardOf } from "./placement.ts"
import { serve } from "./server.ts"
import { announce, type Status } from "./status.ts"

export interface RankOptions {
  readonly deployment: Deployment
  readonly group: Group
  readonly rank: number
  readonly epoch: number
}

export const rank = Effect.fnUntraced(function* (options: RankOptions) {
  const { connection } = yield* Nats
  const { deployment, group, epoch } = options
  const { strategy, ranks, name, model } = group
  const identity = { group: name, rank: options.rank, ranks, epoch, pid: process.pid, strategy, model }
  const status = yield* announce(deployment.name, identity)
  const flush = Effect.ignore(Effect.tryPromise(() => connection.flush())) // said before the process ends
  const fail = (reason: string) => Effect.andThen(status.set({ state: "failed", reason }), flush)
  yield* start(options, status).pipe(
    Effect.tapError(({ message }) => fail(message)),
    Effect.tapDefect((defect) => fail(String(defect))),
  )
})

const start = Effect.fnUntraced(function* ({ deployment, group, epoch, rank }: RankOptions, status: Status) {
  const model = yield* open(group.model)
  const shard = shardOf(group, model.shape, deployment.fuzzy, rank)
  yield* status.set({ shard: describeShard(shard) })
  const { device, threads } = group
  const { deterministic } = deployment
  const progress = (progress: number) => status.note({ progress })
  const services = yield* Layer.build(
    Layer.merge(
      Compute.layer({ model, shard, device, threads, deterministic, progress }),
      Peers.layer({ deployment: deployment.name, group: group.name, rank, epoch }),
    ),
  )
  yield* work({ deployment, group, epoch, rank }, status, model).pipe(Effect.provide(services))
})

const work = Effect.fnUntraced(function* (
  { deployment, group, epoch, rank }: RankOptions,
  status: Status,
  model: Model,
) {
  const compute = yield* Compute
  const { layers, width, vocab, context } = model.shape
  yield* firstPass(compute, shardOf(group, model.shape, deployment.fuzzy, rank), width)
  const owners = ownersOf(group, layers, deployment.fuzzy)
  yield* serve({
    ...{ deployment: deployment.name, epoch },
    crew: {
      ...{ group: group.name, rank, compute, strategy: STRATEGIES[group.strategy] },
      isEnd: (token) => model.tokenizer.isEnd(token),
      vocabulary: model.tokenizer.vocabulary.tokens.length,
      bounds: { vocab, context, maxRows: compute.maxRows },
      place: { rank, ranks: group.ranks, layers, width, owners },
    },
  })
  const { device, bytesOfWeights, kvTokens } = compute
  yield* status.set({
    ...{ state: "ready", progress: 1, device: `${device.name} (${device.variant})`, bytesOfWeights, kvTokens },
    load: () => ({
      bytesOfKv: compute.bytesOfKv(),
      sessions: compute.sessions().length,
      computeMillis: compute.computeMillis(),
    }),
  })
  yield* status.register
  yield* Effect.addFinalizer(() => status.set({ state: "draining" }))
})

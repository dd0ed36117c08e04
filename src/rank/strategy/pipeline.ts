// `pipeline`: rank r holds layers [from, to), the first one embeds, the last one has the head and answers. h is handed on
// from rank to rank: R - 1 hops of one message each. A step of a draft has one more: the tree is on the last rank, the
// embedding on the first, so the frontier goes back to it, and then travels with h.
import { Effect } from "effect"
import type { Op } from "../../../native/index.ts"
import { NO_NODES } from "../../group/exchange.ts"
import { hopOf } from "../../speculation/indices.ts"
import { fuzzy } from "../../speculation/schedule.ts"
import { packFrontier, unpackFrontier } from "./frontier.ts"
import { layersOwnedBy } from "./shards.ts"
import { groupOps, type Head, hidden, once, type PassContext, type Rows, type Strategy } from "./strategy.ts"

export const pipeline: Strategy = {
  owners: (layers, ranks) =>
    Array.from({ length: layers }, (_, layer) => Math.floor(((layer + 1) * ranks - 1) / layers)),
  shards: (layers, ranks, n) => {
    const owners = pipeline.owners(layers, ranks, n)
    return Array.from({ length: ranks }, (_, rank) => {
      const mine = layersOwnedBy(rank, owners)
      return { attention: mine, mlp: mine, embed: rank === 0, head: rank === ranks - 1 }
    })
  },
  batches: "ranks",
  leader: (ranks) => ranks - 1,

  exact: Effect.fnUntraced(function* (context, rows, head) {
    const { rank, ranks } = context.layout
    const h = rank === 0 ? null : (yield* context.exchange.receive(hopOf(rank), rank - 1)).values
    const result = yield* stage(context, rows, h, [{ op: "layers", ...layersOf(context) }], head)
    if (rank < ranks - 1) yield* context.exchange.send(hopOf(rank + 1), rank + 1, hidden(context, result))
    context.exchange.advance(ranks - 1)
    return rank === ranks - 1 ? result : null
  }),

  lead: Effect.fnUntraced(function* (context, rows, n, head) {
    const { rank, ranks } = context.layout
    let h: Uint8Array | null = null
    if (ranks > 1) {
      yield* context.exchange.send(hopOf(1), 0, frontierAlone(context, packFrontier(context.sessions, rows)))
      h = (yield* context.exchange.receive(hopOf(ranks), rank - 1)).values
    }
    const result = yield* stage(context, rows, h, fuzzyOps(context, n), head)
    context.exchange.advance(ranks > 1 ? ranks : 0)
    return result
  }),

  follow: Effect.fnUntraced(function* (context, n) {
    const { rank, ranks } = context.layout
    const { nodes, values } = yield* context.exchange.receive(hopOf(rank + 1), rank === 0 ? ranks - 1 : rank - 1)
    const goesOn = nodes.byteLength > 0
    if (goesOn) {
      const rows = unpackFrontier(context.sessions, nodes)
      const result = yield* stage(context, rows, rank === 0 ? null : values, fuzzyOps(context, n), null)
      yield* context.exchange.send(hopOf(rank + 2), rank + 1, hidden(context, result, nodes))
    } else if (rank < ranks - 2) {
      yield* context.exchange.send(hopOf(rank + 2), rank + 1, frontierAlone(context, NO_NODES))
    }
    context.exchange.advance(ranks)
    return goesOn
  }),

  end: (context) =>
    context.layout.ranks > 1 ? context.exchange.send(hopOf(1), 0, frontierAlone(context, NO_NODES)) : Effect.void,
}

/** This rank's layers, in one native call. */
const stage = (
  context: PassContext,
  rows: Rows,
  h: Uint8Array | null,
  layers: ReadonlyArray<Op>,
  head: Head | null,
) => {
  const begin: Op = h === null ? { op: "embed" } : { op: "receive", hidden: h }
  const last = context.layout.rank === context.layout.ranks - 1
  const end: ReadonlyArray<Op> = last ? (head === null ? [] : [head]) : [{ op: "emit" }]
  return once(context, rows, [begin, ...layers, ...end])
}

const layersOf = ({ layout }: PassContext) => ({
  from: layout.owners.indexOf(layout.rank),
  to: layout.owners.lastIndexOf(layout.rank) + 1,
})

/** A fuzzy group ends where a rank's layers end: the next rank's attentions read the h that it receives. */
const fuzzyOps = ({ layout }: PassContext, n: number): ReadonlyArray<Op> =>
  fuzzy(layout.layers, n).flatMap((group) => groupOps(group.filter((layer) => layout.owners[layer] === layout.rank)))

const frontierAlone = (context: PassContext, nodes: Uint8Array) => ({
  tokens: 0,
  width: context.layout.width,
  blocks: [],
  nodes,
})

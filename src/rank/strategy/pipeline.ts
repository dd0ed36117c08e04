// `pipeline`: rank r holds layers [from, to), the first one embeds, the last one has the head and answers. h is handed on
// from rank to rank: R - 1 hops of one message each. A step of a draft has one more: the tree is on the last rank, the
// embedding on the first, so the frontier goes back to it, and then travels with h.
import { Effect } from "effect"
import type { Op } from "../../../native/index.ts"
import { NO_NODES } from "../../group/exchange.ts"
import { fuzzy } from "../../speculation/schedule.ts"
import { packFrontier, unpackFrontier } from "./frontier.ts"
import { layersOwnedBy } from "./shards.ts"
import { type Course, groupOps, type Head, hidden, once, type Rows, type Strategy } from "./strategy.ts"

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

  exact: Effect.fnUntraced(function* (course, rows, head) {
    const { rank, ranks } = course.place
    const h = rank === 0 ? null : (yield* course.exchange.receive(rank, rank - 1)).values
    const result = yield* stage(course, rows, h, [{ op: "layers", ...layersOf(course) }], head)
    if (rank < ranks - 1) yield* course.exchange.send(rank + 1, rank + 1, hidden(course, result))
    course.exchange.advance(ranks - 1)
    return rank === ranks - 1 ? result : null
  }),

  lead: Effect.fnUntraced(function* (course, rows, n, head) {
    const { rank, ranks } = course.place
    let h: Uint8Array | null = null
    if (ranks > 1) {
      yield* course.exchange.send(1, 0, frontierAlone(course, packFrontier(course.sessions, rows)))
      h = (yield* course.exchange.receive(ranks, rank - 1)).values
    }
    const result = yield* stage(course, rows, h, fuzzyOps(course, n), head)
    course.exchange.advance(ranks > 1 ? ranks : 0)
    return result
  }),

  follow: Effect.fnUntraced(function* (course, n) {
    const { rank, ranks } = course.place
    const { nodes, values } = yield* course.exchange.receive(rank + 1, rank === 0 ? ranks - 1 : rank - 1)
    const goesOn = nodes.byteLength > 0
    if (goesOn) {
      const rows = unpackFrontier(course.sessions, nodes)
      const result = yield* stage(course, rows, rank === 0 ? null : values, fuzzyOps(course, n), null)
      yield* course.exchange.send(rank + 2, rank + 1, hidden(course, result, nodes))
    } else if (rank < ranks - 2) {
      yield* course.exchange.send(rank + 2, rank + 1, frontierAlone(course, NO_NODES))
    }
    course.exchange.advance(ranks)
    return goesOn
  }),

  end: (course) => (course.place.ranks > 1 ? course.exchange.send(1, 0, frontierAlone(course, NO_NODES)) : Effect.void),
}

/** This rank's layers, in one native call. */
const stage = (course: Course, rows: Rows, h: Uint8Array | null, layers: ReadonlyArray<Op>, head: Head | null) => {
  const begin: Op = h === null ? { op: "embed" } : { op: "receive", hidden: h }
  const last = course.place.rank === course.place.ranks - 1
  const end: ReadonlyArray<Op> = last ? (head === null ? [] : [head]) : [{ op: "emit" }]
  return once(course, rows, [begin, ...layers, ...end])
}

const layersOf = ({ place }: Course) => ({
  from: place.owners.indexOf(place.rank),
  to: place.owners.lastIndexOf(place.rank) + 1,
})

/** A fuzzy group ends where a rank's layers end: the next rank's attentions read the h that it receives. */
const fuzzyOps = ({ place }: Course, n: number): ReadonlyArray<Op> =>
  fuzzy(place.layers, n).flatMap((group) => groupOps(group.filter((layer) => place.owners[layer] === place.rank)))

const frontierAlone = (course: Course, nodes: Uint8Array) => ({
  tokens: 0,
  width: course.place.width,
  blocks: [],
  nodes,
})

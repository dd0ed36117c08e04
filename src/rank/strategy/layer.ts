// `layer`: EasySpec's layer parallelism (arXiv 2502.02493). Every rank holds the attention, and so the KV, of some layers;
// rank 0 leads: it embeds, owns the first and the last layer and the head, and answers. The MLPs of the layers between
// are on every rank. plan.ts says which rank sends what to which.
//
// Exact pass: only one attention can run at a time, so h is handed to the owner of the next layer, which runs its MLPs
// too. One hop of one message wherever the owner changes.
// Fuzzy pass: one broadcast (h after layer 0, and the frontier), then one all-gather a group. The attentions of a group
// run at the same time on their owners, all from the group's first h; then every rank runs the MLPs in order:
// h' = h + A_i, h = h' + MLP_i(h'). After the last group only the leader goes on, so the others send and do not wait.
import { Effect } from "effect"
import type { Op, StretchResult } from "../../../native/index.ts"
import { NO_NODES, type Payload } from "../../group/exchange.ts"
import { hopOf } from "../../speculation/indices.ts"
import { fuzzy, owners } from "../../speculation/schedule.ts"
import type { Activation } from "../../wire/activation.ts"
import type { Batch } from "../device/compute.ts"
import { packFrontier, unpackFrontier } from "./frontier.ts"
import { type Gather, gathersOf, LEADER, runsOf } from "./plan.ts"
import { layersOwnedBy } from "./shards.ts"
import { batch, type Head, hidden, type PassContext, type Rows, type RunError, type Strategy } from "./strategy.ts"

export const layer: Strategy = {
  // Exact passes alone are dealt as one group: a block of consecutive layers a rank, and a hop a block.
  owners: (layers, ranks, n) => owners(fuzzy(layers, n === 1 ? layers : n), ranks),
  shards: (layers, ranks, n) => {
    const dealt = layer.owners(layers, ranks, n)
    const all = Array.from({ length: layers }, (_, layer) => layer)
    return Array.from({ length: ranks }, (_, rank) => {
      const leads = rank === LEADER
      return {
        attention: layersOwnedBy(rank, dealt),
        mlp: leads ? all : all.slice(1, -1),
        embed: leads,
        head: leads,
      }
    })
  },
  batches: "supervisor",
  leader: () => LEADER,

  exact: (context, rows, head) => batch(context, rows, (part) => handOver(context, part, { head })),

  lead: (context, rows, n, head) =>
    batch(context, rows, (part) =>
      n === 1
        ? handOver(context, part, { head, draft: packFrontier(context.sessions, rows) })
        : leadFuzzy(context, part, rows, n, head),
    ),

  follow: Effect.fnUntraced(function* (context, n) {
    if (!hearsLeader(context, n)) return true
    const first = yield* context.exchange.receive(hopOf(1), LEADER)
    if (first.nodes.byteLength === 0) return false
    const rows = unpackFrontier(context.sessions, first.nodes)
    yield* batch(context, rows, (part) =>
      n === 1
        ? handOver(context, part, { head: null, draft: first.nodes, first })
        : followFuzzy(context, part, first, n),
    )
    return true
  }),

  end: (context) =>
    context.layout.ranks === 1
      ? Effect.void
      : context.exchange.send(hopOf(1), "all", { ...frontierAlone(context), nodes: NO_NODES }),
}

interface HandOver {
  readonly head: Head | null
  /** In a draft: the packed frontier, which rides with the first hand-over to all. */
  readonly draft?: Uint8Array
  /** In a draft: the first hand-over, as this rank has got it. */
  readonly first?: Activation
}

/** In order: each owner runs its consecutive layers, attention and MLPs, and hands h on. */
const handOver = Effect.fnUntraced(function* (
  context: PassContext,
  { run }: Batch,
  { head, draft, first }: HandOver,
): Effect.fn.Return<StretchResult | null, RunError> {
  const { rank, owners } = context.layout
  const runs = runsOf(owners)
  let result: StretchResult | null = null
  for (const [step, { owner, from, to }] of runs.entries()) {
    if (owner !== rank) continue
    const before = runs[step - 1]
    const after = runs[step + 1]
    const h =
      before === undefined
        ? null
        : step === 1 && first
          ? first
          : yield* context.exchange.receive(hopOf(step), before.owner)
    const begin: Op = h === null ? { op: "embed" } : { op: "receive", hidden: h.values }
    const end: ReadonlyArray<Op> = after === undefined ? (head === null ? [] : [head]) : [{ op: "emit" }]
    result = yield* run([begin, { op: "layers", from, to }, ...end])
    if (after === undefined) continue
    const told = step === 0 && draft !== undefined
    yield* context.exchange.send(
      hopOf(step + 1),
      told ? "all" : after.owner,
      hidden(context, result, told ? draft : NO_NODES),
    )
  }
  context.exchange.advance(runs.length - 1)
  return rank === LEADER ? result : null
})

const leadFuzzy = Effect.fnUntraced(function* (context: PassContext, part: Batch, rows: Rows, n: number, head: Head) {
  const { layers, ranks } = context.layout
  const begin: ReadonlyArray<Op> = [{ op: "embed" }, { op: "layers", from: 0, to: 1 }]
  let pending = begin
  if (ranks > 1) {
    const first = yield* part.run([...begin, { op: "emit" }])
    yield* context.exchange.send(hopOf(1), "all", hidden(context, first, packFrontier(context.sessions, rows)))
    pending = []
  }
  pending = yield* fuzzyGroups(context, part, pending, gathersOf(context.layout, n))
  return yield* part.run([...pending, { op: "layers", from: layers - 1, to: layers }, head])
})

const followFuzzy = Effect.fnUntraced(function* (context: PassContext, part: Batch, first: Activation, n: number) {
  yield* fuzzyGroups(context, part, [{ op: "receive", hidden: first.values }], gathersOf(context.layout, n))
})

/**
 * The groups between the first and the last layer. Returns what is still to be computed: one native call a stretch, so the
 * MLPs of a group wait for the attentions of the next. A rank that has no attention in the groups to come is done.
 */
const fuzzyGroups = Effect.fnUntraced(function* (
  context: PassContext,
  part: Batch,
  begin: ReadonlyArray<Op>,
  gathers: ReadonlyArray<Gather>,
): Effect.fn.Return<ReadonlyArray<Op>, RunError> {
  const { rank } = context.layout
  let pending = begin
  for (const { layers, owners, listeners, hop } of gathers) {
    const mine = layers.filter((_, i) => owners[i] === rank)
    const others = hop === null ? [] : listeners.filter((listener) => listener !== rank)
    const returned = others.length > 0 // else only this rank's own MLPs want them
    const attend: ReadonlyArray<Op> = mine.length > 0 ? [{ op: "attend", layers: mine, returned }] : []
    pending = [...pending, ...attend]
    let own: Payload | null = null
    if (mine.length > 0 && returned) {
      own = blocks(context, part, (yield* part.run(pending)).attended)
      pending = []
    }
    const listens = listeners.includes(rank)
    const from = listens ? [...new Set(owners)].filter((owner) => owner !== rank) : []
    const to = others.length === 1 && others[0] !== undefined ? others[0] : "all"
    const came = hop === null ? [] : yield* context.exchange.gather(hop, own, to, from)
    if (listens) pending = [...pending, mlps(layers, owners, came)]
    if (!listens) break
  }
  context.exchange.advance(Math.max(context.layout.ranks > 1 ? 1 : 0, ...gathers.map(({ hop }) => hop ?? 0)))
  return pending
})

/** The MLPs of a group: every layer's A is the next block of the rank that owns it, or this rank's own. */
const mlps = (layers: ReadonlyArray<number>, owners: ReadonlyArray<number>, came: ReadonlyArray<Activation>): Op => {
  const used = new Map<number, number>()
  const attended = owners.map((owner) => {
    const activation = came.find(({ rank }) => rank === owner)
    if (activation === undefined) return null
    const block = used.get(owner) ?? 0
    used.set(owner, block + 1)
    const size = activation.values.byteLength / activation.blocks
    return activation.values.subarray(block * size, (block + 1) * size)
  })
  return { op: "mlps", layers, attended }
}

const blocks = (context: PassContext, part: Batch, attended: ReadonlyArray<Uint8Array>): Payload => ({
  ...{ tokens: part.tokens, width: context.layout.width },
  ...{ blocks: attended, nodes: NO_NODES },
})

const frontierAlone = ({ layout }: PassContext) => ({ tokens: 0, width: layout.width, blocks: [] })

/** Whether the passes of a draft reach the other ranks at all. */
const hearsLeader = ({ layout }: PassContext, n: number) =>
  n === 1 ? runsOf(layout.owners).length > 1 : layout.ranks > 1

// EasySpec's draft loop, inside the draft group: one command, one answer, and no process outside is asked between depths.
// The leader has the head and so the tree; the others follow it from frontier to frontier.
import { Effect } from "effect"
import type { Segment, StretchResult } from "../../../native/index.ts"
import { type Node, positionOf, ROOT, type Slot, slotAt } from "../../speculation/indices.ts"
import { type Candidate, expand, frontier, prune, root, type Tree } from "../../speculation/tree.ts"
import type { Draft, Drafted, DraftedTree, PassCost, SessionDraft } from "../../wire/pass.ts"
import { chain } from "../device/chain.ts"
import type { Meter } from "../pass/meter.ts"
import type { Head, PassContext, RunError, Strategy } from "./strategy.ts"

/** The trees on the leader, null on the others. */
export const draft = Effect.fnUntraced(function* (
  strategy: Strategy,
  context: PassContext,
  command: Draft,
  cost: Meter,
): Effect.fn.Return<Drafted | null, RunError> {
  const { pass, sessions } = command
  const calibrated = yield* calibrate(strategy, context, sessions)
  if (strategy.leader(context.layout.ranks) !== context.layout.rank) return yield* follow(strategy, context, command)
  const calibration = cost.read()
  const sprouts = yield* grow(strategy, context, command, calibrated)
  const growing = cost.read()
  const [first, ...more] = sprouts.map(({ draft, tree, steps }, i): DraftedTree => {
    const { tokens, parents, logProbs } = prune(tree, draft.nodes)
    const mine = { calibrate: share(calibration, sprouts.length, i), draft: share(growing, sprouts.length, i) }
    return { tokens, parents, logProbs, ...mine, steps }
  })
  return first === undefined ? null : { _tag: "Drafted", pass, trees: [first, ...more] }
})

/** Bonus calibration (section 3.2): what was accepted, and the bonus token, exactly and at once; its KV is kept. */
const calibrate = Effect.fnUntraced(function* (strategy: Strategy, context: PassContext, drafts: Drafts) {
  const rows = drafts.map(({ session, committed, accepted }) => chain(session, positionOf(committed), accepted))
  let last = -1
  const ends = drafts.map(({ accepted }) => (last += accepted.length))
  const result = yield* strategy.exact(context, rows, candidates(Int32Array.from(ends), widest(drafts)))
  for (const { session, committed, accepted } of drafts) {
    yield* context.compute.commit(
      session,
      Int32Array.from(accepted, (_, row) => committed + row),
    )
  }
  return result
})

/** In the order of the command's sessions. */
type Drafts = ReadonlyArray<SessionDraft>

/** A session's tree while it grows. */
interface Sprout {
  readonly draft: SessionDraft
  readonly slots: Map<Node, Slot> // of the nodes that have run
  readonly steps: Array<DraftedTree["steps"][number]>
  tree: Tree
}

/** The trees, depth by depth: the most probable leaves are run, and their candidates become the next depth. */
const grow = Effect.fnUntraced(function* (
  strategy: Strategy,
  context: PassContext,
  { fuzzy, sessions }: Draft,
  calibrated: StretchResult | null,
) {
  const k = widest(sessions)
  const first = candidatesOf(context, calibrated, k)
  const sprouts = sessions.map((draft, i): Sprout => {
    const { committed, accepted, width } = draft
    const slots = new Map([[ROOT, slotAt(committed + accepted.length - 1)]])
    return { draft, slots, steps: [], tree: expand(root, [ROOT], best(first.slice(i, i + 1), width)) }
  })
  for (let at = 1; at < deepest(sessions); at++) {
    const tips = sprouts.flatMap((sprout) => {
      const nodes = at < sprout.draft.depth ? frontier(sprout.tree, sprout.draft.width) : []
      return nodes.length === 0 ? [] : [{ sprout, nodes }]
    })
    if (tips.length === 0) {
      yield* strategy.end(context)
      break
    }
    const began = performance.now()
    const rows = tips.map(({ sprout, nodes }) => frontierRows(context, sprout, nodes))
    const all = Int32Array.from(tips.flatMap(({ nodes }) => nodes).keys())
    const result = yield* strategy.lead(context, rows, fuzzy, candidates(all, k))
    const found = candidatesOf(context, result, k)
    const millis = performance.now() - began
    let from = 0
    for (const { sprout, nodes } of tips) {
      const mine = found.slice(from, from + nodes.length)
      from += nodes.length
      sprout.tree = expand(sprout.tree, nodes, best(mine, sprout.draft.width))
      sprout.steps.push({ rows: nodes.length, millis })
    }
  }
  return sprouts
})

const follow = Effect.fnUntraced(function* (strategy: Strategy, context: PassContext, { fuzzy, sessions }: Draft) {
  for (let at = 1; at < deepest(sessions); at++) {
    if (!(yield* strategy.follow(context, fuzzy))) break
  }
  return null
})

const widest = (drafts: Drafts): number => Math.max(...drafts.map(({ width }) => width))
const deepest = (drafts: Drafts): number => Math.max(...drafts.map(({ depth }) => depth))

/** What one of several sessions has to answer for: as many hops and as much time as all, and a part of the work. */
const share = (cost: PassCost, of: number, i: number): PassCost => {
  const part = (total: number) => Math.floor((total * (i + 1)) / of) - Math.floor((total * i) / of)
  const { messages, bytes, computeMillis } = cost
  return { ...cost, messages: part(messages), bytes: part(bytes), computeMillis: computeMillis / of }
}

const candidates = (rows: Int32Array, k: number): Head => ({ op: "head", rows, want: "candidates", k })

/** The candidates of each row, best first, without the padding of the draft's vocabulary that the base does not know. */
const candidatesOf = ({ vocabulary }: PassContext, result: StretchResult | null, k: number) => {
  const tokens = result?.tokens ?? new Int32Array(0)
  const logProbs = result?.logProbs ?? new Float32Array(0)
  const all = Array.from(tokens, (token, i): Candidate => ({ token, logProb: logProbs[i] ?? Number.NEGATIVE_INFINITY }))
  return Array.from({ length: tokens.length / k }, (_, row) => ({ all: all.slice(row * k, (row + 1) * k), vocabulary }))
}

const best = (rows: ReturnType<typeof candidatesOf>, width: number): ReadonlyArray<ReadonlyArray<Candidate>> =>
  rows.map(({ all, vocabulary }) => all.slice(0, width).filter(({ token }) => token < vocabulary))

const frontierRows = (context: PassContext, { draft, tree, slots }: Sprout, nodes: ReadonlyArray<Node>): Segment => {
  const { session } = draft
  const first = context.compute.used(session)
  nodes.forEach((node, row) => slots.set(node, slotAt(first + row)))
  return {
    session,
    tokens: Int32Array.from(nodes, (node) => tree.tokens[node] ?? 0),
    parents: Int32Array.from(nodes, (node) => slots.get(tree.parents[node] ?? ROOT) ?? 0),
  }
}

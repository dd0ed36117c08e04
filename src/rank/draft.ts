// EasySpec's draft loop, inside the draft group: one command, one answer, and nobody outside is asked between depths.
// The leader has the head and so the tree; the others follow it from frontier to frontier.
import { Effect } from "effect"
import type { Segment, StretchResult } from "../../native/index.ts"
import { type Candidate, expand, frontier, prune, ROOT, root, type Tree } from "../speculation/tree.ts"
import type { Draft, Drafted } from "../wire/pass.ts"
import { chain } from "./chain.ts"
import type { Meter } from "./meter.ts"
import type { Course, Head, RunError, Strategy } from "./strategy.ts"

type Step = Drafted["steps"][number]

export const draft = Effect.fnUntraced(function* (
  strategy: Strategy,
  course: Course,
  command: Draft,
  cost: Meter,
): Effect.fn.Return<Drafted | null, RunError> {
  const calibrated = yield* calibrate(strategy, course, command)
  if (strategy.leader(course.place.ranks) !== course.place.rank) return yield* follow(strategy, course, command)
  const calibration = cost.read()
  const steps: Array<Step> = []
  const tree = yield* grow(strategy, course, command, calibrated, steps)
  const { tokens, parents, logProbs } = prune(tree, command.nodes)
  return {
    _tag: "Drafted",
    pass: command.pass,
    tokens,
    parents,
    logProbs,
    calibrate: calibration,
    draft: cost.read(),
    steps,
  }
})

/** Bonus calibration (section 3.2): what was accepted, and the bonus token, exactly and at once; its KV is kept. */
const calibrate = Effect.fnUntraced(function* (strategy: Strategy, course: Course, command: Draft) {
  const { session, committed, accepted, width } = command
  const rows = chain(session, committed, accepted)
  const result = yield* strategy.exact(course, rows, candidates(Int32Array.of(accepted.length - 1), width))
  yield* course.compute.commit(
    session,
    Int32Array.from(accepted, (_, row) => committed + row),
  )
  return result
})

/** The tree, depth by depth: the most probable leaves are run, and their candidates become the next depth. */
const grow = Effect.fnUntraced(function* (
  strategy: Strategy,
  course: Course,
  { session, committed, accepted, fuzzy, depth, width }: Draft,
  calibrated: StretchResult | null,
  steps: Array<Step>,
) {
  const slots = new Map([[ROOT, committed + accepted.length - 1]])
  let tree = expand(root, [ROOT], candidatesOf(course, calibrated, width))
  for (let at = 1; at < depth; at++) {
    const nodes = frontier(tree, width)
    if (nodes.length === 0) {
      yield* strategy.end(course)
      break
    }
    const began = performance.now()
    const rows = frontierRows(session, tree, nodes, slots)
    const first = course.compute.used(session)
    nodes.forEach((node, row) => slots.set(node, first + row))
    const result = yield* strategy.lead(course, rows, fuzzy, candidates(Int32Array.from(nodes.keys()), width))
    tree = expand(tree, nodes, candidatesOf(course, result, width))
    steps.push({ rows: nodes.length, millis: performance.now() - began })
  }
  return tree
})

const follow = Effect.fnUntraced(function* (strategy: Strategy, course: Course, { session, fuzzy, depth }: Draft) {
  for (let at = 1; at < depth; at++) {
    if (!(yield* strategy.follow(course, session, fuzzy))) break
  }
  return null
})

const candidates = (rows: Int32Array, k: number): Head => ({ op: "head", rows, want: "candidates", k })

/** The candidates of each row, best first, without the padding of the draft's vocabulary that the base does not know. */
const candidatesOf = ({ vocabulary }: Course, result: StretchResult | null, k: number) => {
  const tokens = result?.tokens ?? new Int32Array(0)
  const logProbs = result?.logProbs ?? new Float32Array(0)
  const all = Array.from(tokens, (token, i): Candidate => ({ token, logProb: logProbs[i] ?? Number.NEGATIVE_INFINITY }))
  return Array.from({ length: tokens.length / k }, (_, row) =>
    all.slice(row * k, (row + 1) * k).filter(({ token }) => token < vocabulary),
  )
}

const frontierRows = (
  session: string,
  tree: Tree,
  nodes: ReadonlyArray<number>,
  slots: ReadonlyMap<number, number>,
): Segment => ({
  session,
  tokens: Int32Array.from(nodes, (node) => tree.tokens[node] ?? 0),
  parents: Int32Array.from(nodes, (node) => slots.get(tree.parents[node] ?? ROOT) ?? 0),
})

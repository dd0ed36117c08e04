// The draft tree: EAGLE-2's dynamic expansion by cumulative draft probability (arXiv 2406.16858, section 4), as pure
// functions over plain data. The root is the bonus token and has no entry; its number is ROOT.
import { type Node, nodeOf, ROOT } from "./indices.ts"

/** Nodes in the order in which they were drafted: a parent stands before its children. */
export interface Tree {
  readonly tokens: ReadonlyArray<number>
  readonly parents: ReadonlyArray<Node>
  readonly logProbs: ReadonlyArray<number> // of the whole path, by the draft
  readonly depths: ReadonlyArray<number> // 1 for the root's children
}

export interface Candidate {
  readonly token: number
  readonly logProb: number // given its parent
}

/** The tree that has nothing but the bonus token. */
export const root: Tree = { tokens: [], parents: [], logProbs: [], depths: [] }

/** Adds each node's candidates as its children. */
export const expand = (
  tree: Tree,
  nodes: ReadonlyArray<Node>,
  candidates: ReadonlyArray<ReadonlyArray<Candidate>>,
): Tree => {
  const children = nodes.flatMap((parent, i) =>
    (candidates[i] ?? [])
      .filter(({ logProb }) => logProb > Number.NEGATIVE_INFINITY)
      .map(({ token, logProb }) => ({
        token,
        parent,
        logProb: (parent === ROOT ? 0 : (tree.logProbs[parent] ?? 0)) + logProb,
        depth: parent === ROOT ? 1 : (tree.depths[parent] ?? 0) + 1,
      })),
  )
  return {
    tokens: [...tree.tokens, ...children.map(({ token }) => token)],
    parents: [...tree.parents, ...children.map(({ parent }) => parent)],
    logProbs: [...tree.logProbs, ...children.map(({ logProb }) => logProb)],
    depths: [...tree.depths, ...children.map(({ depth }) => depth)],
  }
}

/** The `width` most probable nodes of the newest depth, to be expanded next, in the order in which they were drafted. */
export const frontier = (tree: Tree, width: number): ReadonlyArray<Node> => {
  const newest = Math.max(0, ...tree.depths)
  const leaves = tree.depths.flatMap((depth, node) => (depth === newest && newest > 0 ? [nodeOf(node)] : []))
  return best(tree, leaves, width)
}

/**
 * The `nodes` most probable nodes. A path's probability never rises with a further token, so what is kept is connected.
 */
export const prune = (tree: Tree, nodes: number): Tree => {
  const kept = best(tree, [...tree.tokens.keys()].map(nodeOf), nodes)
  const moved = new Map(kept.map((node, i) => [node, nodeOf(i)]))
  return {
    tokens: kept.map((node) => tree.tokens[node] ?? 0),
    parents: kept.map((node) => moved.get(tree.parents[node] ?? ROOT) ?? ROOT),
    logProbs: kept.map((node) => tree.logProbs[node] ?? 0),
    depths: kept.map((node) => tree.depths[node] ?? 0),
  }
}

/** The most probable of the given nodes; of equals, the one drafted first, which a parent always is. */
const best = (tree: Tree, nodes: ReadonlyArray<Node>, count: number): ReadonlyArray<Node> =>
  [...nodes]
    .sort((a, b) => (tree.logProbs[b] ?? 0) - (tree.logProbs[a] ?? 0) || a - b)
    .slice(0, count)
    .sort((a, b) => a - b)

/** How far and how wide a tree grows: draft depths, nodes expanded a depth and children of each, nodes in the end. */
export interface TreeShape {
  readonly depth: number
  readonly width: number
  readonly nodes: number
}

/** Nodes that a tree of this shape can have at most. */
export const nodesOf = ({ depth, width, nodes }: TreeShape): number =>
  Math.min(nodes, width + (depth - 1) * width * width)

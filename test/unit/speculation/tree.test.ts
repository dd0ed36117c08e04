// The draft tree, grown as a draft group grows it (src/rank/strategy/draftLoop.ts) from a draft that is a table of probabilities.
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { nodeOf, ROOT } from "../../../src/speculation/indices.ts"
import { philox } from "../../../src/speculation/sampler.ts"
import {
  type Candidate,
  expand,
  frontier,
  nodesOf,
  prune,
  root,
  type Tree,
  type TreeShape,
} from "../../../src/speculation/tree.ts"

const VOCAB = 12

/** A draft's candidates after a path, best first: made up, but always the same for the same path. */
type Draft = (path: ReadonlyArray<number>, k: number) => ReadonlyArray<Candidate>
const draft = (seed: number, levels: number): Draft => {
  const known = new Map<string, ReadonlyArray<Candidate>>()
  return (path, k) => {
    const all = known.get(path.join()) ?? candidatesAfter(path, seed, levels)
    known.set(path.join(), all)
    return all.slice(0, k)
  }
}
const candidatesAfter = (path: ReadonlyArray<number>, seed: number, levels: number): ReadonlyArray<Candidate> => {
  const hash = path.reduce((at, token) => philox([at, token, seed, 0], [0, 0])[0], 1)
  const weights = Array.from({ length: VOCAB }, (_, token) => {
    const level = philox([hash, token, seed, 1], [0, 0])[0] % levels // few levels: many ties
    return level === 0 ? 0 : Math.exp(level)
  })
  const mass = weights.reduce((sum, weight) => sum + weight, 0)
  return weights
    .map((weight, token) => ({ token, logProb: mass === 0 ? Number.NaN : Math.log(weight / mass) }))
    .toSorted((a, b) => b.logProb - a.logProb || a.token - b.token)
}

const pathOf = (tree: Tree, node: number): ReadonlyArray<number> =>
  node === ROOT ? [] : [...pathOf(tree, tree.parents[node] ?? ROOT), tree.tokens[node] ?? -1]

const grow = (candidates: Draft, { depth, width }: TreeShape): Tree => {
  let tree = expand(root, [ROOT], [candidates([], width)])
  for (let at = 1; at < depth; at++) {
    const nodes = frontier(tree, width)
    const after = nodes.map((node) => candidates(pathOf(tree, node), width))
    tree = expand(tree, nodes, after)
  }
  return tree
}

const shape = fc.record({
  depth: fc.integer({ min: 1, max: 6 }),
  width: fc.integer({ min: 1, max: 5 }),
  nodes: fc.integer({ min: 0, max: 40 }),
})
const drafts = fc.tuple(fc.nat(10_000), fc.constantFrom(2, 3, 1000)).map(([seed, levels]) => draft(seed, levels))
const check = (predicate: (tree: Tree, shape: TreeShape, candidates: Draft) => void) =>
  fc.assert(
    fc.property(drafts, shape, (candidates, shape) => predicate(grow(candidates, shape), shape, candidates)),
    { numRuns: 300 },
  )
const nodesIn = (tree: Tree) => [...tree.tokens.keys()].map(nodeOf)
const logProb = (tree: Tree, node: number) => tree.logProbs[node] ?? Number.NaN

/** A tree is one: parents before their children, depths and probabilities that add up along each path. */
const expectConnected = (tree: Tree, candidates: Draft) => {
  for (const node of nodesIn(tree)) {
    const parent = tree.parents[node] ?? Number.NaN
    expect(ROOT <= parent && parent < node).toBe(true)
    const [depth, before] = parent === ROOT ? [0, 0] : [tree.depths[parent] ?? 0, logProb(tree, parent)]
    const known = candidates(pathOf(tree, parent), VOCAB).find(({ token }) => token === tree.tokens[node])
    expect([tree.depths[node], tree.logProbs[node]]).toEqual([depth + 1, before + (known?.logProb ?? Number.NaN)])
  }
  const paths = nodesIn(tree).map((node) => pathOf(tree, node).join())
  expect(new Set(paths).size).toBe(paths.length)
}

describe("growing", () => {
  test("gives a tree, of the depth and at most the size that its shape allows", () => {
    check((tree, shape, candidates) => {
      expectConnected(tree, candidates)
      expect(Math.max(0, ...tree.depths)).toBeLessThanOrEqual(shape.depth)
      expect(tree.tokens.length).toBeLessThanOrEqual(nodesOf({ ...shape, nodes: Number.POSITIVE_INFINITY }))
      for (const list of [tree.parents, tree.logProbs, tree.depths]) expect(list.length).toBe(tree.tokens.length)
    })
  })

  test("adds to a tree and changes nothing in it; what cannot be chosen is no node", () => {
    check((tree, { width }, candidates) => {
      const nodes = frontier(tree, width)
      const after = nodes.map((node) => [
        ...candidates(pathOf(tree, node), width),
        { token: 0, logProb: Number.NEGATIVE_INFINITY },
        { token: 1, logProb: Number.NaN },
      ])
      const larger = expand(tree, nodes, after)
      expect(larger.tokens.slice(0, tree.tokens.length)).toEqual(tree.tokens)
      expect(larger.parents.slice(0, tree.parents.length)).toEqual(tree.parents)
      expect(larger.logProbs.every(Number.isFinite)).toBe(true)
      expect(larger.tokens.length - tree.tokens.length).toBe(
        after.flat().filter(({ logProb }) => Number.isFinite(logProb)).length,
      )
    })
  })

  test("of a draft that is never right stops at the root", () => {
    const never = () => [{ token: 3, logProb: Number.NEGATIVE_INFINITY }]
    const tree = grow(never, { depth: 4, width: 2, nodes: 8 })
    expect([tree, frontier(tree, 4), prune(tree, 8)]).toEqual([root, [], root])
  })
})

describe("the frontier", () => {
  test("is the most probable nodes of the newest depth, in the order in which they were drafted", () => {
    check((tree, { width }) => {
      const chosen = frontier(tree, width)
      const newest = nodesIn(tree).filter((node) => tree.depths[node] === Math.max(...tree.depths))
      const left = newest.filter((node) => !chosen.includes(node))
      expect(chosen.length).toBe(Math.min(width, newest.length))
      expect(chosen).toEqual(newest.filter((node) => chosen.includes(node)))
      const least = Math.min(...chosen.map((node) => logProb(tree, node)))
      for (const node of left) expect(logProb(tree, node)).toBeLessThanOrEqual(least)
    })
  })
})

describe("pruning", () => {
  test("keeps a tree, within its budget", () => {
    check((tree, { nodes }, candidates) => {
      const pruned = prune(tree, nodes)
      expectConnected(pruned, candidates)
      expect(pruned.tokens.length).toBe(Math.min(nodes, tree.tokens.length))
    })
  })

  test("keeps the most probable nodes", () => {
    check((tree, { nodes }) => {
      const descending = (logProbs: ReadonlyArray<number>) => logProbs.toSorted((a, b) => b - a)
      expect(descending(prune(tree, nodes).logProbs)).toEqual(descending(tree.logProbs).slice(0, nodes))
    })
  })

  test("to a smaller budget keeps a part of what a larger one keeps", () => {
    check((tree, { nodes }) => {
      expect(prune(prune(tree, nodes), Math.floor(nodes / 2))).toEqual(prune(tree, Math.floor(nodes / 2)))
      expect(prune(tree, tree.tokens.length)).toEqual(tree)
    })
  })
})

test("a certain chain is kept to its end: of equals, the parent comes first", () => {
  const certain = (path: ReadonlyArray<number>) => [{ token: path.length, logProb: 0 }]
  const tree = grow(certain, { depth: 5, width: 1, nodes: 5 })
  expect(tree).toEqual({
    tokens: [0, 1, 2, 3, 4],
    parents: [-1, 0, 1, 2, 3],
    logProbs: [0, 0, 0, 0, 0],
    depths: [1, 2, 3, 4, 5],
  })
  expect(prune(tree, 3).tokens).toEqual([0, 1, 2])
})

// Acceptance against plain decoding: whatever was drafted, what is accepted is what the base alone would have written.
import fc from "fast-check"
import { expect, test } from "vitest"
import { accept } from "../../../src/speculation/acceptance.ts"
import { type Node, nodeOf, ROOT } from "../../../src/speculation/indices.ts"
import { philox } from "../../../src/speculation/sampler.ts"

const VOCAB = 3 // few tokens, so that drafts are often right

/** The base's token after what has been written: its own, or the sampler's; decided, at any rate, by the text alone. */
const base =
  (seed: number) =>
  (text: ReadonlyArray<number>): number =>
    text.reduce((at, token) => philox([at, token, seed, 0], [0, 0])[0], 1) % VOCAB

/** Any tree: a parent for each node among those before it, or the root; no two children with the same token. */
const trees = fc.array(fc.tuple(fc.nat(1000), fc.nat(VOCAB - 1)), { maxLength: 30 }).map((drawn) => {
  const tree = { tokens: [] as number[], parents: [] as Node[] }
  for (const [place, token] of drawn) {
    const parent = nodeOf((place % (tree.tokens.length + 1)) - 1)
    if (tree.parents.some((other, node) => other === parent && tree.tokens[node] === token)) continue
    tree.tokens.push(token)
    tree.parents.push(parent)
  }
  return tree
})
type AnyTree = { readonly tokens: ReadonlyArray<number>; readonly parents: ReadonlyArray<Node> }
const pathOf = (tree: AnyTree, node: number): ReadonlyArray<number> =>
  node === ROOT ? [] : [...pathOf(tree, tree.parents[node] ?? ROOT), tree.tokens[node] ?? -1]
/** As one pass of the base over the tree gives them. */
const choicesOf = (tree: AnyTree, text: ReadonlyArray<number>, choose: ReturnType<typeof base>) =>
  [ROOT, ...tree.tokens.keys()].map((node) => choose([...text, ...pathOf(tree, node)]))

test("what is accepted is the longest drafted piece of plain decoding, and one token more", () => {
  fc.assert(
    fc.property(trees, fc.nat(10_000), (tree, seed) => {
      const choose = base(seed)
      const { path, tokens } = accept(tree, choicesOf(tree, [], choose))
      const plain: Array<number> = []
      while (plain.length < tokens.length) plain.push(choose(plain))
      expect(tokens).toEqual(plain)
      expect(path.map((node) => tree.tokens[node])).toEqual(plain.slice(0, -1))
      expect(path.map((node) => tree.parents[node])).toEqual([ROOT, ...path].slice(0, -1))
      const drafted = [...tree.tokens.keys()].map((node) => pathOf(tree, node).join())
      expect(drafted).not.toContain(plain.join()) // it could not have been longer
    }),
    { numRuns: 2000 },
  )
})

test("iteration after iteration, any drafts give the text of plain decoding", () => {
  fc.assert(
    fc.property(fc.array(trees, { maxLength: 8 }), fc.nat(10_000), (drafts, seed) => {
      const choose = base(seed)
      const text = [choose([])] // the first bonus token
      for (const tree of drafts) text.push(...accept(tree, choicesOf(tree, text, choose)).tokens)
      const plain: Array<number> = []
      while (plain.length < text.length) plain.push(choose(plain))
      expect(text).toEqual(plain)
      expect(text.length).toBeGreaterThan(drafts.length) // each iteration gives a token at least
    }),
    { numRuns: 200 },
  )
})

test("without a tree it is plain decoding; without a choice it is refused", () => {
  expect(accept({ tokens: [], parents: [] }, [7])).toEqual({ path: [], tokens: [7] })
  expect(() => accept({ tokens: [5], parents: [ROOT] }, [5])).toThrow(
    new RangeError("choices has 1 tokens for a tree of 1 nodes"),
  )
})

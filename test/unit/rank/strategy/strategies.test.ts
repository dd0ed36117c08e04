// One suite that every strategy runs. To add a strategy, add it to STRATEGIES: what it has to hold stands here.
import { Effect } from "effect"
import fc from "fast-check"
import { beforeEach, describe, expect, test } from "vitest"
import { type Split, STRATEGIES, shardsOf } from "../../../../src/rank/strategy/strategies.ts"
import { Strategy } from "../../../../src/wire/deployment.ts"
import {
  type Decoded,
  type DraftedTree,
  GREEDY,
  type PassAnswer,
  type PassCost,
  type SessionDraft,
  type Verified,
} from "../../../../src/wire/pass.ts"
import { predict } from "../../../simulation/engine.ts"
import { RankGroup } from "../rankGroup.ts"

const MODEL = { layers: 9, salt: 5 }
const PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]
const DEALT_BY = 3

/** As many ranks as a group of the strategy may have here. */
const splits: ReadonlyArray<Split> = Strategy.literals.flatMap((strategy) =>
  (strategy === "single" ? [1] : [1, 2, 3, 4]).map((ranks) => ({ strategy, ranks })),
)

/** The token that the model says next: what an exact pass has to choose. */
const next = (tokens: ReadonlyArray<number>): number => predict(tokens, MODEL, GREEDY).token

const answers = (model: ReadonlyArray<number>, count: number): ReadonlyArray<number> => {
  const tokens = [...model]
  for (let i = 0; i < count; i++) tokens.push(next(tokens))
  return tokens.slice(model.length)
}

const ONE = { depth: 1, width: 1, nodes: 1 }
const SHAPES = [
  { depth: 4, width: 2, nodes: 6 },
  { depth: 1, width: 3, nodes: 3 },
  { depth: 5, width: 1, nodes: 5 },
]

const pathTo = (parents: ReadonlyArray<number>, node: number): ReadonlyArray<number> =>
  node < 0 ? [] : [...pathTo(parents, parents[node] ?? -1), node]

test("every strategy has its ranks here", () => {
  expect(Object.keys(STRATEGIES).toSorted()).toEqual([...Strategy.literals].toSorted())
})

describe.each(splits)("$strategy on $ranks", (split) => {
  let group: RankGroup
  let pass = 0
  beforeEach(() => {
    group = new RankGroup("unit", split, MODEL, DEALT_BY)
  })

  const numbered = () => ({ epoch: 0, pass: ++pass, attempt: 0 })
  const prefill = (session: string, tokens: ReadonlyArray<number>) =>
    ask({ _tag: "Prefill", session, ...numbered(), committed: 0, tokens, sampling: GREEDY })
  const ask = (command: Parameters<RankGroup["command"]>[0]): Promise<PassAnswer> =>
    Effect.runPromise(group.command(command))
  const decode = async (session: string, committed: number, token: number, steps: number): Promise<Decoded> =>
    expectTag(
      await ask({ _tag: "Decode", session, ...numbered(), committed, acceptedRows: [], token, steps }),
      "Decoded",
    )
  const draft = async (fuzzy: number, sessions: readonly [SessionDraft, ...ReadonlyArray<SessionDraft>]) =>
    expectTag(await ask({ _tag: "Draft", ...numbered(), fuzzy, sessions }), "Drafted").trees

  /** Calibrates and drafts again and again. Each tree, with the tokens that were known before. */
  const drafting = async (n: number) => {
    let tokens = [...PROMPT]
    await prefill("s", tokens.slice(0, -1))
    const all = []
    for (let committed = tokens.length - 1, i = 0; i < 3; i++) {
      const shape = SHAPES[i % SHAPES.length] ?? ONE
      const [tree] = await draft(n, [{ session: "s", committed, accepted: tokens.slice(committed), ...shape }])
      all.push({ tree, shape, tokens })
      committed = tokens.length
      tokens = [...tokens, ...answers(tokens, 1 + i)]
    }
    return all
  }

  test("its shards are the model: each layer's KV on one rank, with its MLP; one embeds, and its leader has the head", () => {
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 40 }), fc.integer({ min: 1, max: 6 }), (layers, n) => {
        const shards = shardsOf(split, { layers }, n)
        const all = Array.from({ length: layers }, (_, layer) => layer)
        expect(shards).toHaveLength(split.ranks)
        expect(shards.flatMap(({ attention }) => attention).sort((a, b) => a - b)).toEqual(all)
        for (const { attention, mlp } of shards) expect(attention.filter((layer) => !mlp.includes(layer))).toEqual([])
        expect(shards.filter(({ embed }) => embed)).toHaveLength(1)
        const heads = shards.flatMap(({ head }, rank) => (head ? [rank] : []))
        expect(heads).toEqual([STRATEGIES[split.strategy].leader(split.ranks)])
      }),
    )
  })

  test("a prompt in chunks and steps of one command: the tokens are the model's", async () => {
    await prefill("s", PROMPT.slice(0, 5))
    const rest = { committed: 5, tokens: PROMPT.slice(5, -1), sampling: GREEDY }
    await ask({ _tag: "Prefill", session: "s", ...numbered(), ...rest })
    const { tokens } = await decode("s", PROMPT.length - 1, PROMPT.at(-1) ?? 0, 6)
    expect(tokens).toEqual(answers(PROMPT, 6).slice(0, tokens.length))
    expect(tokens.length).toBeGreaterThan(1)
  })

  test("in any tree, the model's choice after every path; the accepted rows are exact KV", async () => {
    const trees = fc
      .array(fc.tuple(fc.nat(22), fc.nat()), { maxLength: 9 })
      .map((nodes) => nodes.map(([token, parent], i) => ({ token, parent: (parent % (i + 1)) - 1 })))
    await fc.assert(
      fc.asyncProperty(trees, fc.nat(), async (nodes, at) => {
        const session = `tree-${pass}`
        const committed = PROMPT.length - 1
        await prefill(session, PROMPT.slice(0, -1))
        const parents = nodes.map(({ parent }) => parent)
        const rows = {
          tokens: [PROMPT.at(-1) ?? 0, ...nodes.map(({ token }) => token)],
          parents: [-1, ...parents.map((node) => node + 1)],
        }
        const command = { session, ...numbered(), committed, acceptedRows: [], ...rows }
        const { choices }: Verified = expectTag(await ask({ _tag: "Verify", ...command }), "Verified")
        const paths = [-1, ...parents.keys()].map((node) => [
          ...PROMPT,
          ...pathTo(parents, node).map((on) => nodes[on]?.token ?? 0),
        ])
        expect(choices).toEqual(paths.map(next))
        const kept = at % paths.length
        const known = paths[kept] ?? []
        const acceptedRows = [0, ...pathTo(parents, kept - 1).map((node) => node + 1)]
        const token = next(known)
        const more = { committed: committed + acceptedRows.length, acceptedRows, token, steps: 2 }
        const after = expectTag(await ask({ _tag: "Decode", session, ...numbered(), ...more }), "Decoded")
        expect(after.tokens).toEqual(answers([...known, token], after.tokens.length))
      }),
      { numRuns: 25 },
    )
  })

  const draftOf = async (session: string, i: number): Promise<SessionDraft> => {
    const tokens = [...PROMPT, ...Array.from({ length: i }, (_, j) => (7 * j + i) % 23)]
    const committed = tokens.length - 1 - i
    await prefill(session, tokens.slice(0, committed))
    const shape = SHAPES[i % SHAPES.length] ?? ONE
    return { session, committed, accepted: tokens.slice(committed), ...shape }
  }

  test.each([1, 2, 3, 5])(
    "drafts, N = %i: each has its shape, and its KV is exact when it is calibrated",
    async (n) => {
      const drafted = await drafting(n)
      for (const { tree, shape, tokens } of drafted) {
        expectShape(tree, shape)
        if (n === 1) expect(tree.tokens).toContain(next(tokens)) // an exact draft of the same model knows its best
      }
      const known = drafted.at(-1)?.tokens ?? []
      const held = known.length - 1
      const after = await decode("s", held, known[held] ?? 0, 2)
      expect(after.tokens).toEqual(answers(known, 2))
    },
  )

  // A pipeline's fuzzy group ends where a rank's layers end, so its trees are its own.
  test.each(split.strategy === "pipeline" ? [1] : [1, 2, 3, 5])("drafts, N = %i: those of one rank", async (n) => {
    const trees = (await drafting(n)).map(({ tree }) => treeOf(tree))
    group = new RankGroup("unit", { strategy: "single", ranks: 1 }, MODEL, DEALT_BY)
    expect(trees).toEqual((await drafting(n)).map(({ tree }) => treeOf(tree)))
  })

  test.each([1, 3])("drafts of several sessions are those of each alone, N = %i", async (n) => {
    const alone: Array<DraftedTree> = []
    for (const i of [0, 1, 2]) alone.push(...(await draft(n, [await draftOf(`alone-${i}`, i)])))
    const [first, ...more] = await Promise.all([0, 1, 2].map((i) => draftOf(`together-${i}`, i)))
    if (first === undefined) throw new Error("no drafts")
    const together = await draft(n, [first, ...more])
    expect(together.map(treeOf)).toEqual(alone.map(treeOf))
  })

  test("one that a rank lacks fails the whole, and nothing is left running", async () => {
    const good = await draftOf("good", 1)
    const refusal = await ask({
      _tag: "Draft",
      ...numbered(),
      fuzzy: 2,
      sessions: [good, { ...good, session: "nobody" }],
    })
    expect(refusal).toMatchObject({ _tag: "Refused", error: { _tag: "UnknownSession", session: "nobody" } })
    expect(await draft(2, [good])).toHaveLength(1)
  })

  test.each([1, 3])("what its answers say of messages and bytes is what was carried, N = %i", async (n) => {
    const told: Array<PassCost> = []
    const answer = await prefill("s", PROMPT.slice(0, -1))
    if (answer._tag === "Prefilled") told.push(answer.cost)
    const session = { session: "s", committed: PROMPT.length - 1, accepted: PROMPT.slice(-1) }
    const [tree] = await draft(n, [{ ...session, depth: 4, width: 2, nodes: 6 }])
    told.push(tree.calibrate, tree.draft)
    const { cost } = await decode("s", PROMPT.length - 1, PROMPT.at(-1) ?? 0, 1)
    told.push(cost)
    const sum = (of: "messages" | "bytes") => told.reduce((total, cost) => total + cost[of], 0)
    expect({ messages: sum("messages"), bytes: sum("bytes") }).toEqual(group.carried)
    if (split.ranks === 1) expect(group.carried.messages).toBe(0)
  })
})

const treeOf = ({ tokens, parents, logProbs }: DraftedTree) => ({ tokens, parents, logProbs })

/** Within its shape, connected, and no two children of one parent alike. */
const expectShape = (
  { tokens, parents, logProbs }: DraftedTree,
  { depth, width, nodes }: { readonly depth: number; readonly width: number; readonly nodes: number },
) => {
  expect(tokens.length).toBeLessThanOrEqual(nodes)
  expect([parents.length, logProbs.length]).toEqual([tokens.length, tokens.length])
  expect(parents.every((parent, node) => parent >= -1 && parent < node)).toBe(true)
  for (const node of tokens.keys()) expect(pathTo(parents, node).length).toBeLessThanOrEqual(depth)
  expect(parents.filter((parent) => parent === -1).length).toBeLessThanOrEqual(width)
  expect(new Set(parents.map((parent, node) => `${parent} ${tokens[node]}`)).size).toBe(tokens.length)
}

const expectTag = <T extends PassAnswer["_tag"]>(answer: PassAnswer, tag: T): Extract<PassAnswer, { _tag: T }> => {
  if (answer._tag !== tag) throw new Error(`expected ${tag}, got ${JSON.stringify(answer)}`)
  return answer as Extract<PassAnswer, { _tag: T }>
}

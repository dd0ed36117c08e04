// Drafts of several sessions as one command: each session's tree is the one that it gets alone, to the last bit, for the hops
// and messages of one; a session that cannot run, or is given up, does the others no harm.
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import type { DraftedTree, PassAnswer, SessionDraft } from "../../src/wire/pass.ts"
import { RankGroup, Server } from "./rankGroup.ts"

const references: Readonly<Record<string, ReadonlyArray<{ readonly tokens: ReadonlyArray<number> }>>> = JSON.parse(
  readFileSync(new URL("../golden/model-tokens.json", import.meta.url), "utf8"),
)
const PROMPTS = (references["demo/draft"] ?? references["demo/base"] ?? Object.values(references)[0] ?? []).map(
  ({ tokens }) => tokens.filter((token) => token < 4000).slice(0, 12),
)
const SHAPES = [
  { depth: 4, width: 2, nodes: 6 },
  { depth: 2, width: 1, nodes: 2 },
  { depth: 5, width: 3, nodes: 9 },
]

let server: Server
beforeAll(async () => {
  server = await Server.start()
})
afterAll(() => server[Symbol.asyncDispose]())

describe.each([
  { strategy: "layer" as const, ranks: 2 },
  { strategy: "layer" as const, ranks: 3 },
  { strategy: "pipeline" as const, ranks: 2 },
  { strategy: "single" as const, ranks: 1 },
])("$strategy on $ranks", ({ strategy, ranks }) => {
  let group: RankGroup
  beforeAll(async () => {
    const model = join(import.meta.dirname, "../../models/demo/draft")
    group = await RankGroup.start(server, { name: `together-${strategy}-${ranks}`, model, strategy, ranks })
  })
  afterAll(() => group[Symbol.asyncDispose]())

  /** A draft of the i-th session, whose prompt is filled in. */
  const draftOf = async (name: string, i: number): Promise<SessionDraft> => {
    const tokens = PROMPTS[i % PROMPTS.length] ?? []
    const session = `${name}-${i}`
    const committed = tokens.length - 2 - (i % 2)
    await group.prefill(session, tokens.slice(0, committed))
    const shape = SHAPES[i % SHAPES.length] ?? { depth: 1, width: 1, nodes: 1 }
    return { session, committed, accepted: tokens.slice(committed), ...shape }
  }
  const drafts = async (name: string) => {
    const [first, ...more] = await Promise.all([0, 1, 2, 3].map((i) => draftOf(name, i)))
    if (first === undefined) throw new Error("no drafts")
    return [first, ...more] as const
  }
  const together = (fuzzy: number, sessions: readonly [SessionDraft, ...ReadonlyArray<SessionDraft>]) =>
    group.command({ _tag: "Draft", ...group.next(), fuzzy, sessions })
  const treesOf = (answer: PassAnswer) => {
    if (answer._tag !== "Drafted") throw new Error(`expected trees, got ${JSON.stringify(answer)}`)
    return answer.trees
  }
  const alone = async (fuzzy: number, draft: SessionDraft) => treesOf(await together(fuzzy, [draft]))
  const oneByOne = async (fuzzy: number, drafts: ReadonlyArray<SessionDraft>) => {
    const trees: Array<DraftedTree> = []
    for (const draft of drafts) trees.push(...(await alone(fuzzy, draft)))
    return trees
  }

  const treeOf = ({ tokens, parents, logProbs }: DraftedTree) => ({ tokens, parents, logProbs })
  const sum = (drafted: ReadonlyArray<DraftedTree>, what: "messages" | "hops") =>
    drafted.reduce((sum, { calibrate, draft }) => sum + calibrate[what] + draft[what], 0)

  test.each([4, 1])("the trees are those of each alone, N = %i", async (fuzzy) => {
    const each = await oneByOne(fuzzy, await drafts(`alone-${fuzzy}`))
    const trees = treesOf(await together(fuzzy, await drafts(`together-${fuzzy}`)))
    expect(trees.map(treeOf)).toEqual(each.map(treeOf))
    const deepest = each.slice(2, 3)
    expect(sum(trees, "messages")).toBe(sum(deepest, "messages"))
    expect(sum(trees.slice(0, 1), "hops")).toBe(sum(deepest, "hops"))
  })

  test("one that the ranks do not know fails the command, and the others can be asked for at once", async () => {
    const expected = await oneByOne(4, await drafts("wanted"))
    const all = await drafts("known")
    const [first, second, third] = all
    if (second === undefined || third === undefined) throw new Error("too few drafts")
    const answer = await together(4, [first, { ...second, session: "nobody" }, third])
    expect(answer).toMatchObject({ _tag: "Refused", error: { _tag: "UnknownSession", session: "nobody" } })
    const again = await Promise.all(all.map((draft) => alone(4, draft)))
    expect(again.flat().map(treeOf)).toEqual(expected.map(treeOf))
  })

  test("one that is given up meanwhile does not stop the others, and its KV is freed", async () => {
    const all = await drafts("given")
    const answering = together(4, all)
    group.control({ _tag: "Abort", session: all[0].session })
    expect(await answering).toMatchObject({ _tag: "Drafted" })
    const before = await group.beat(() => true)
    for (const { session } of all) group.control({ _tag: "Release", session })
    await group.beat(({ sessions, rank }) => rank === before.rank && sessions <= before.sessions - all.length + 1)
  })
})

// Lossless: with speculation the tokens are those of plain decoding, at any temperature, for every N, tree and placement of
// the draft. The draft changes speed alone.
import { afterAll, describe, expect, test } from "vitest"
import type { InferRequest } from "../../src/wire/infer.ts"
import { howToGet, isMissing, weights } from "../weights.ts"
import { Cluster, type ClusterOptions, DEMO } from "./cluster.ts"
import { TREE } from "./requests.ts"

const SUBJECTS = ["queue", "parser", "cache", "router", "logger", "matrix", "vector", "stream", "schema", "worker"]
const OPENINGS = [
  (name: string) => `export class ${name} {\n  constructor(`,
  (name: string) => `/** A ${name} with a bound. */\nexport function `,
  (name: string) => `import { ${name} } from "./${name}.ts"\n\n`,
  (name: string) => `def ${name}(items):\n    `,
  (name: string) => `The ${name} is a small part of a program that`,
]
const PROMPTS = OPENINGS.flatMap((opening) => SUBJECTS.map(opening)) // 50

const TREES = [
  { depth: 1, width: 4, nodes: 4 },
  TREE,
  { depth: 5, width: 4, nodes: 12 },
  { depth: 4, width: 1, nodes: 4 },
]
const FUZZY = [1, 2, 4, 5]
const RANKS = [1, 2, 3, 4]
const TEMPERATURES = [0, 0.8]

/** What is counted along the path of each node, and what is the same for all of them. Half of the prompts go without. */
const ADJUSTMENTS: ReadonlyArray<InferRequest> = [
  ...[{}, { repetitionPenalty: 1.3 }, {}, { presencePenalty: 1.5 }, {}, { frequencyPenalty: 0.8 }],
  ...[{}, { logitBias: { 13: -100, 285: 4 }, minTokens: 12 }, {}, { frequencyPenalty: -0.5, presencePenalty: 0.2 }],
  ...[
    {},
    { logitBias: { 263: -3 }, repetitionPenalty: 0.9, frequencyPenalty: 0.3, topK: 20, topP: 0.9, ignoreEos: true },
  ],
]

/** Sessions at a time: their passes share calls, and drafts, in every mixture. */
const STREAMS = 8

interface Case {
  readonly request: InferRequest
  readonly fuzzy: number
  readonly tree: (typeof TREES)[number]
}

/** Every prompt at every temperature, with N and the tree changing from case to case so that all pairs of them come. */
const casesOf = (ranks: number, maxTokens: number): ReadonlyArray<Case> =>
  PROMPTS.flatMap((prompt, p) =>
    TEMPERATURES.map((temperature, t) => {
      const turn = p + Math.floor(p / 4) * t + ranks
      return {
        request: { prompt, maxTokens, temperature, seed: BigInt(p), ...ADJUSTMENTS[p % ADJUSTMENTS.length] },
        fuzzy: FUZZY[turn % 4] ?? 1,
        tree: TREES[Math.floor(turn / 4) % 4] ?? { depth: 1, width: 1, nodes: 1 },
      }
    }),
  )

const keyOf = ({ prompt, temperature }: InferRequest): string => `${temperature} ${prompt}`

const suite = (options: ClusterOptions, ranksOf: ReadonlyArray<number>, share: number, maxTokens: number): void => {
  const plain = new Map<string, ReadonlyArray<number>>()
  const accepted: Array<number> = []

  test.each(ranksOf)("%i draft ranks", async (ranks) => {
    await using cluster = await Cluster.start({ ...options, draftRanks: ranks })
    const cases = casesOf(ranks, maxTokens).filter((_, i) => i % share === ranks % share)
    const shared = cases.values()
    await Promise.all(Array.from({ length: STREAMS }, () => check(cluster, shared)))
  })

  const check = async (cluster: Cluster, cases: Iterable<Case>) => {
    for (const { request, fuzzy, tree } of cases) {
      const key = keyOf(request)
      const wanted = plain.get(key) ?? (await cluster.generate({ ...request, speculation: "none" })).tokens
      plain.set(key, wanted)
      const { tokens, stats } = await cluster.generate({ ...request, speculation: tree, fuzzy })
      expect(tokens, `${key}, N = ${fuzzy}, tree ${JSON.stringify(tree)}`).toEqual(wanted)
      accepted.push(stats.meanAcceptedLength)
    }
  }

  afterAll(() => {
    const mean = accepted.reduce((sum, one) => sum + one, 0) / accepted.length
    expect(mean).toBeGreaterThan(0.5) // speculation was at work, so this could have failed
  })
}

describe("the demo pair, 50 prompts, all at each number of ranks", () => suite(DEMO, RANKS, 1, 12))

describe.skipIf(isMissing("smollm2"))(`smollm2 as its own draft, 50 prompts${howToGet("smollm2")}`, () =>
  suite({ base: weights("smollm2"), draft: weights("smollm2") }, RANKS, 4, 12),
)

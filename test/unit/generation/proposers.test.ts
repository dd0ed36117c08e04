// One suite that every proposer runs: its trees have the shape that was asked for, and whatever it proposes, the answer is that
// of plain decoding. To add a proposer, add it to PROPOSERS.
import { Effect, Semaphore } from "effect"
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { Traces } from "../../../src/bus/traces.ts"
import { draftGroup } from "../../../src/generation/draft.ts"
import { speculative } from "../../../src/generation/generate.ts"
import { begun } from "../../../src/generation/history.ts"
import type { Proposal, Proposer } from "../../../src/generation/proposer.ts"
import type { GenerateRequest } from "../../../src/generation/request.ts"
import { restore } from "../../../src/generation/restore.ts"
import { Admitted, type Models, SessionPlace } from "../../../src/generation/services.ts"
import { onReplicas } from "../../../src/generation/stay.ts"
import { Tokenizer } from "../../../src/model/tokenizer/tokenizer.ts"
import { prefixCache } from "../../../src/replica/prefixCache.ts"
import { nodeOf, ROOT } from "../../../src/speculation/indices.ts"
import type { TreeShape } from "../../../src/speculation/tree.ts"
import { TokenLog } from "../../../src/store/tokenLog.ts"
import type { LogEntry } from "../../../src/wire/infer.ts"
import { GREEDY } from "../../../src/wire/pass.ts"
import { answer, END, VOCABULARY } from "../../simulation/engine.ts"
import { RankGroup } from "../rank/rankGroup.ts"

const BASE = { layers: 6, salt: 5 }
const OTHER = { layers: 5, salt: 9 }
const TOKENIZER = new Tokenizer({
  file: "unit",
  tokens: Array.from({ length: VOCABULARY }, (_, id) => String.fromCharCode(97 + id)),
  special: new Map([[END, "control"]]),
  bos: null,
  prefix: [],
  suffix: [],
  eos: END,
  ends: new Set([END]),
  definition: () => {
    throw new Error("nothing is encoded here")
  },
})

/** A proposer, with the draft's ranks where it has any. */
interface Named {
  readonly name: string
  readonly draft: () => RankGroup | null
  readonly proposer: (draft: RankGroup | null) => Proposer
}

const drafting = (name: string, draft: () => RankGroup): Named => ({
  name,
  draft,
  proposer: (ranks) => draftGroup((ranks ?? draft()).group()),
})

const PROPOSERS: ReadonlyArray<Named> = [
  drafting("a draft group that is its base", () => new RankGroup("draft", { strategy: "single", ranks: 1 }, BASE, 3)),
  drafting(
    "a draft group of another model, on three ranks",
    () => new RankGroup("draft", { strategy: "layer", ranks: 3 }, OTHER, 3),
  ),
]

const requestOf = (change: Partial<GenerateRequest>): GenerateRequest => ({
  session: "s",
  prompt: [3, 1, 4],
  maxTokens: 40,
  minTokens: 0,
  ignoreEos: true,
  sampling: GREEDY,
  stop: [],
  speculation: { depth: 1, width: 1, nodes: 1 },
  fuzzy: 3,
  trace: false,
  logprobs: null,
  promptLogprobs: null,
  model: "m",
  client: null,
  deadlineMillis: null,
  interestMillis: null,
  answerTo: null,
  after: 0,
  ...change,
})

interface Ran {
  readonly tokens: ReadonlyArray<number>
  readonly logged: ReadonlyArray<number> // in the log's entries
  readonly trees: ReadonlyArray<{ readonly tree: Proposal; readonly shape: TreeShape }>
  readonly accepted: number // drafted tokens
}

interface Running {
  readonly request: GenerateRequest
  readonly shapes: ReadonlyArray<TreeShape> // one an iteration, in turn
  readonly proposer: Proposer
  readonly draft: RankGroup | null
  readonly before?: (iteration: number) => Effect.Effect<void> // what happens before an iteration
}

/** A generation, every iteration of which drafts. */
const run = ({ request, shapes, proposer, draft, before = () => Effect.void }: Running): Promise<Ran> => {
  const entries: Array<LogEntry> = []
  const trees: Array<Ran["trees"][number]> = []
  const log = TokenLog.of({
    append: (_, entry) => Effect.sync(() => entries.push(entry)),
    read: () => Effect.succeed(entries.map((entry, i) => ({ entry, sequence: i + 1 }))),
    age: () => Effect.succeed(0),
  })
  const base = new RankGroup("base", { strategy: "pipeline", ranks: 2 }, BASE, 3)
  const noted: Proposer = {
    propose: (generation, shape) =>
      Effect.tap(proposer.propose(generation, shape), ([tree]) => Effect.sync(() => trees.push({ tree, shape }))),
  }
  let iteration = 0
  return Effect.gen(function* () {
    const models: Models["Service"] = {
      base: base.group(),
      draft: draft?.group() ?? null,
      prefill: null,
      tokenizer: TOKENIZER,
      learned: { current: undefined },
      prefixes: yield* prefixCache(0),
    }
    const place = { models, coldStart: null, leaves: () => false }
    const unplaced = yield* restore(request, TOKENIZER, { history: begun(request), epoch: 1, ended: 0 })
    yield* onReplicas(unplaced, { draft: true }, (generation) => {
      const shape = shapes[iteration % shapes.length] ?? { depth: 1, width: 1, nodes: 1 }
      return Effect.andThen(before(iteration++), speculative(generation, noted, shape))
    }).pipe(
      Effect.provideService(
        SessionPlace,
        SessionPlace.of({ tokenizer: TOKENIZER, suspects: Semaphore.makeUnsafe(1), take: Effect.succeed(place) }),
      ),
    )
    yield* unplaced.journal.written
    expect(base.sessions).toEqual([]) // nothing of it is kept there
    const { logged } = unplaced.journal
    return {
      tokens: logged.map(({ id }) => id),
      logged: entries.flatMap((entry) => (entry._tag === "Tokens" ? entry.tokens.map(({ id }) => id) : [])),
      trees,
      accepted: logged.filter(({ origin }) => origin === "drafted").length,
    }
  }).pipe(
    Effect.provideService(TokenLog, log),
    Effect.provideService(Traces, Traces.of({ publish: () => Effect.void })),
    Effect.provideService(Admitted, { begin: Effect.void, running: () => 1, progressed: () => {} }),
    Effect.scoped,
    Effect.runPromise,
  )
}

const plain = (request: GenerateRequest) => answer(request, BASE).map(({ token }) => token)

const shapes = fc.array(
  fc.record({
    depth: fc.integer({ min: 1, max: 5 }),
    width: fc.integer({ min: 1, max: 3 }),
    nodes: fc.integer({ min: 1, max: 9 }),
  }),
  { minLength: 1, maxLength: 4 },
)
const requests = fc
  .record({
    prompt: fc.array(fc.nat(VOCABULARY - 2), { minLength: 1, maxLength: 12 }),
    maxTokens: fc.integer({ min: 1, max: 40 }),
    ignoreEos: fc.boolean(),
    sampling: fc.constantFrom(
      GREEDY,
      { ...GREEDY, penalties: { presence: 0.7, frequency: 0.2, from: 0 } },
      { ...GREEDY, bias: [[4, -100] as const, [7, 0.5] as const] },
    ),
  })
  .map(({ prompt: [first = 0, ...more], ...rest }) => requestOf({ prompt: [first, ...more], ...rest }))

const depthsOf = ({ parents }: Proposal): ReadonlyArray<number> => {
  const depths: Array<number> = []
  for (const parent of parents) depths.push((depths[parent] ?? 0) + 1)
  return depths
}

describe.each(PROPOSERS)("$name", ({ draft, proposer }) => {
  test("its trees have their shape, are connected, and name tokens once for each parent", async () => {
    await fc.assert(
      fc.asyncProperty(requests, shapes, async (request, shapes) => {
        const ranks = draft()
        const { trees } = await run({ request, shapes, draft: ranks, proposer: proposer(ranks) })
        for (const { tree, shape } of trees) {
          const { tokens, parents, logProbs } = tree
          expect(tokens.length).toBeLessThanOrEqual(shape.nodes)
          expect([parents.length, logProbs.length]).toEqual([tokens.length, tokens.length])
          expect(parents.every((parent, node) => parent >= ROOT && parent < node)).toBe(true)
          expect(Math.max(0, ...depthsOf(tree))).toBeLessThanOrEqual(shape.depth)
          expect(tokens.every((token) => token >= 0 && token < VOCABULARY)).toBe(true)
          expect(new Set(parents.map((parent, node) => `${parent} ${tokens[node]}`)).size).toBe(tokens.length)
        }
      }),
      { numRuns: 30 },
    )
  })

  test("the answer is that of plain decoding, whatever the request and the shapes", async () => {
    await fc.assert(
      fc.asyncProperty(requests, shapes, async (request, shapes) => {
        const ranks = draft()
        const { tokens, logged } = await run({ request, shapes, draft: ranks, proposer: proposer(ranks) })
        expect(tokens).toEqual(plain(request))
        expect(logged).toEqual(tokens)
      }),
      { numRuns: 60 },
    )
  })

  test("where its ranks lose the session meanwhile, it goes on with the same tokens", async () => {
    await fc.assert(
      fc.asyncProperty(requests, shapes, fc.integer({ min: 1, max: 6 }), async (request, shapes, at) => {
        const ranks = draft()
        const before = (iteration: number) =>
          iteration === at && ranks !== null ? ranks.group().control({ _tag: "Release", session: "s" }) : Effect.void
        const { tokens } = await run({ request, shapes, draft: ranks, proposer: proposer(ranks), before })
        expect(tokens).toEqual(plain(request))
      }),
      { numRuns: 30 },
    )
  })
})

test("any trees at all give the answer of plain decoding", async () => {
  const nodes = fc.array(fc.tuple(fc.nat(VOCABULARY - 1), fc.nat()), { maxLength: 12 })
  await fc.assert(
    fc.asyncProperty(requests, fc.array(nodes, { minLength: 1, maxLength: 6 }), async (request, drawn) => {
      let next = 0
      const proposer: Proposer = {
        propose: (generation) => {
          const tree = drawn[next++ % drawn.length] ?? []
          const proposal = {
            tokens: tree.map(([token]) => token),
            parents: tree.map(([, parent], i) => nodeOf((parent % (i + 1)) - 1)),
            logProbs: tree.map(() => 0),
          }
          return Effect.succeed([proposal, generation] as const)
        },
      }
      const { tokens } = await run({ request, shapes: [{ depth: 1, width: 1, nodes: 1 }], draft: null, proposer })
      expect(tokens).toEqual(plain(request))
    }),
    { numRuns: 100 },
  )
})

test("a draft that is its base is accepted whole", async () => {
  const [same] = PROPOSERS
  if (same === undefined) throw new Error("no proposer")
  const ranks = same.draft()
  const request = requestOf({ fuzzy: 1 })
  const shape = { depth: 4, width: 1, nodes: 4 }
  const { tokens, accepted } = await run({ request, shapes: [shape], draft: ranks, proposer: same.proposer(ranks) })
  expect(accepted).toBe((tokens.length / 5) * 4)
})

// The paper's tables, by the cost model: a draft step, and a generation against plain decoding.
import { type Iteration, iterationOf, type Price, passOf, pricesOn, quickest } from "../../src/planner/cost.ts"
import type { Hardware } from "../../src/planner/hardware.ts"
import type { ModelShape, Pair } from "../../src/planner/models.ts"
import { type Division, ranksOf } from "../../src/planner/strategies.ts"
import { acceptedOf, measuredN } from "./acceptance.ts"
import { baseDivisions, INSTALLATIONS, layerOf, SINGLE, sizesOf, tensorOf } from "./installations.ts"

export const ROWS = 4 // of a draft step: a tree's frontier
export const CONTEXT = 2048
export const CONTEXTS: ReadonlyArray<number> = [512, 1024, 2048, 4096, 8192, 16384, 32768]
export const RANKS: ReadonlyArray<number> = [2, 4, 8, 16, 32, 64]

/** Milliseconds of one draft step. */
export const stepMillis = (
  division: Division,
  model: ModelShape,
  hardware: Hardware,
  { context = CONTEXT, rows = ROWS } = {},
): number => 1000 * passOf(division, model, hardware, { rows, context }).seconds

export interface DraftStep {
  readonly hardware: string
  readonly pair: string
  readonly single: number // ms, and so on
  readonly tensor: Timed
  readonly exact: Timed // layer by layer on several ranks
  readonly fuzzy: Timed // N = 4, MLPs on every rank
  readonly split: Timed // N = 4, MLPs and head over all ranks
}

interface Timed {
  readonly millis: number
  readonly ranks: number
  readonly hops: number
}

/** Every division with the number of ranks that is best for it. */
export const draftSteps = (): ReadonlyArray<DraftStep> =>
  INSTALLATIONS.flatMap(({ hardware, pairs }) =>
    pairs.map(({ name, draft }) => {
      const best = (of: (ranks: number) => Division): Timed => {
        const timed = sizesOf(hardware).map((ranks): Timed => {
          const { seconds, hops } = passOf(of(ranks), draft, hardware, { rows: ROWS, context: CONTEXT })
          return { millis: 1000 * seconds, ranks, hops }
        })
        return timed.reduce((a, b) => (b.millis < a.millis ? b : a))
      }
      return {
        hardware: hardware.name,
        pair: name,
        single: stepMillis(SINGLE, draft, hardware),
        tensor: best(tensorOf),
        exact: best((ranks) => layerOf(ranks, 1, false)),
        fuzzy: best((ranks) => layerOf(ranks, 4, false)),
        split: best((ranks) => layerOf(ranks, 4, true)),
      }
    }),
  )

export interface SpeedUp {
  readonly hardware: string
  readonly pair: string
  readonly base: Division
  readonly plainMillis: number // of a token
  readonly single: Best
  readonly tensor: Best
  readonly fuzzy: Best
  readonly split: Best
}

export interface Best extends Iteration {
  readonly draft: Division
  readonly depth: number
}

/** Over plain decoding by the base's best division, each draft with the depth, the ranks and the N that are best for it. */
export const speedUps = (context = CONTEXT): ReadonlyArray<SpeedUp> =>
  INSTALLATIONS.flatMap(({ hardware, pairs }) =>
    pairs.flatMap((pair): ReadonlyArray<SpeedUp> => {
      const price = pricesOn(hardware)
      const plain = quickest(price, baseDivisions(hardware, pair, context), pair.base, { rows: 1, context })
      if (plain === undefined) return []
      const over = (drafts: ReadonlyArray<Division>) => bestOf(price, pair, plain.division, drafts, context)
      const ranks = sizesOf(hardware)
      const layers = (split: boolean) => ranks.flatMap((ranks) => measuredN.map((n) => layerOf(ranks, n, split)))
      return [
        {
          ...{ hardware: hardware.name, pair: pair.name, base: plain.division, plainMillis: 1000 * plain.seconds },
          single: over([SINGLE]),
          tensor: over(ranks.map(tensorOf)),
          fuzzy: over(layers(false)),
          split: over(layers(true)),
        },
      ]
    }),
  )

const DEPTHS = [1, 2, 3, 4, 5, 6, 7, 8]

export const bestOf = (
  price: Price,
  pair: Pair,
  base: Division,
  drafts: ReadonlyArray<Division>,
  context: number,
): Best => {
  const all = drafts.flatMap((draft) =>
    DEPTHS.map((depth): Best => {
      const accepted = acceptedOf(draft.strategy === "layer" ? draft.n : 1, depth)
      return { ...iterationOf(price, pair, { base, draft }, { depth, accepted }, context), draft, depth }
    }),
  )
  return all.reduce((a, b) => (b.speedUp > a.speedUp ? b : a))
}

export const draftTable = (steps: ReadonlyArray<DraftStep>): string =>
  [
    "| hardware | draft of | one device, ms | tensor | layer, exact | layer, N = 4, MLPs on every rank | layer, N = 4, MLPs and head split | tensor over split |",
    "|---|---|---|---|---|---|---|---|",
    ...steps.map(
      ({ hardware, pair, single, tensor, exact, fuzzy, split }) =>
        `| ${hardware} | ${pair} | ${single.toFixed(2)} | ${[tensor, exact, fuzzy, split].map(showTimed(single)).join(" | ")} | **${(tensor.millis / split.millis).toFixed(2)}** |`,
    ),
  ].join("\n")

const showTimed =
  (single: number) =>
  ({ millis, ranks, hops }: Timed): string =>
    `${(single / millis).toFixed(2)}: ${millis.toFixed(2)}, ${ranks} ranks, ${hops} hops`

export const speedUpTable = (rows: ReadonlyArray<SpeedUp>): string =>
  [
    "| hardware | pair | base, plain | draft on one device | tensor draft | layer, MLPs on every rank | layer, MLPs and head split |",
    "|---|---|---|---|---|---|---|",
    ...rows.map(
      ({ hardware, pair, base, plainMillis, single, tensor, fuzzy, split }) =>
        `| ${hardware} | ${pair} | ${base.strategy} ${ranksOf(base)}, ${plainMillis.toFixed(1)} ms | ${[single, tensor, fuzzy, split].map(showBest).join(" | ")} |`,
    ),
  ].join("\n")

const showBest = ({ speedUp, draft, depth, tokens }: Best): string => {
  const n = draft.strategy === "layer" ? `, N = ${draft.n}` : ""
  const ranks = draft.strategy === "single" ? "" : `${draft.ranks} ranks${n}; `
  return `**${speedUp.toFixed(2)}** (${ranks}depth ${depth}, ${tokens.toFixed(1)} tokens)`
}

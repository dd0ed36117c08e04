// What the tables run on and with: each hardware with the pairs that fit it, and the ways to divide a draft.
import { fits } from "../../src/planner/cost.ts"
import {
  A100_8,
  A100_8_EAGER,
  devicesOf,
  H100_8,
  type Hardware,
  MINI_PCS,
  TWO_MACHINES,
} from "../../src/planner/hardware.ts"
import { LLAMA_3, type Pair, QWEN_2, quantised } from "../../src/planner/models.ts"
import type { Division } from "../../src/planner/strategies.ts"

export interface Installation {
  readonly hardware: Hardware
  readonly pairs: ReadonlyArray<Pair>
}

const PAIRS = [LLAMA_3, QWEN_2]

export const INSTALLATIONS: ReadonlyArray<Installation> = [
  ...[A100_8_EAGER, A100_8, H100_8, TWO_MACHINES].map((hardware) => ({ hardware, pairs: PAIRS })),
  { hardware: MINI_PCS, pairs: PAIRS.map(quantised) },
]

/** Ranks that a group may have here. */
export const sizesOf = (hardware: Hardware): ReadonlyArray<number> =>
  [2, 4, 8].filter((ranks) => ranks <= devicesOf(hardware).length)

export const SINGLE: Division = { strategy: "single" }
export const tensorOf = (ranks: number): Division => ({ strategy: "tensor", ranks })
export const layerOf = (ranks: number, n: number, split: boolean): Division => ({ strategy: "layer", ranks, n, split })

/** The ways to run a base that fit into the memory. */
export const baseDivisions = (hardware: Hardware, { base }: Pair, context: number): ReadonlyArray<Division> =>
  [
    SINGLE,
    ...sizesOf(hardware).flatMap(
      (ranks): ReadonlyArray<Division> => [tensorOf(ranks), { strategy: "pipeline", ranks }],
    ),
  ].filter((division) => fits(division, base, hardware, context))

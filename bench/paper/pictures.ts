// The tables as pictures: a draft step by N, by context and by ranks, and the speed-up of a generation by N.
import { pricesOn, quickest } from "../../src/planner/cost.ts"
import {
  A100_8,
  A100_8_EAGER,
  devicesOf,
  H100_8,
  type Hardware,
  MINI_PCS,
  SWITCHED_H100,
  TWO_MACHINES,
  withDevices,
} from "../../src/planner/hardware.ts"
import { LLAMA_3, type Pair, quantised } from "../../src/planner/models.ts"
import { type Chart, writeChart } from "../chart.ts"
import { measuredN } from "./acceptance.ts"
import { baseDivisions, layerOf, SINGLE, tensorOf } from "./installations.ts"
import { bestOf, CONTEXT, CONTEXTS, RANKS, stepMillis } from "./tables.ts"

const SETTINGS: ReadonlyArray<{ readonly name: string; readonly hardware: Hardware; readonly pair: Pair }> = [
  { name: "8 A100, eager", hardware: A100_8_EAGER, pair: LLAMA_3 },
  { name: "8 A100", hardware: A100_8, pair: LLAMA_3 },
  { name: "8 H100", hardware: H100_8, pair: LLAMA_3 },
  { name: "2 x 4 A100, Ethernet", hardware: TWO_MACHINES, pair: LLAMA_3 },
  { name: "4 mini-PCs, Q4_K_M", hardware: MINI_PCS, pair: quantised(LLAMA_3) },
]
const SIZES = [1, 2, 3, 4, 5, 6, 7, 8]

/** As many ranks as there are. */
const allOf = (hardware: Hardware) => devicesOf(hardware).length

const byN: Chart = {
  title: "Llama-3 8B, a draft step: tensor parallelism over layer parallelism with MLPs and head split",
  x: "N, attention layers at once (1: exact)",
  y: "times as fast as tensor",
  linear: true,
  series: SETTINGS.map(({ name, hardware, pair: { draft } }) => {
    const ranks = allOf(hardware)
    const tensor = stepMillis(tensorOf(ranks), draft, hardware)
    return { name, points: SIZES.map((n) => [n, tensor / stepMillis(layerOf(ranks, n, true), draft, hardware)]) }
  }),
}

const byContext: Chart = {
  title: "Llama-3 8B on four A100, a draft step: one device over several",
  x: "context, tokens",
  y: "times as fast as one device",
  linear: true,
  series: [
    { name: "tensor", of: tensorOf(4) },
    { name: "N = 4, MLPs and head split", of: layerOf(4, 4, true) },
    { name: "N = 4, MLPs on each", of: layerOf(4, 4, false) },
    { name: "N = 2, MLPs on each", of: layerOf(2, 2, false) },
  ].map(({ name, of }) => ({
    name,
    points: CONTEXTS.map((context) => {
      const millis = (division: typeof of) => stepMillis(division, LLAMA_3.draft, A100_8, { context })
      return [context, millis(SINGLE) / millis(of)]
    }),
  })),
}

const byRanks: Chart = {
  title: `Llama-3 8B, a draft step by ranks, context ${CONTEXT}`,
  x: "ranks",
  y: "ms",
  series: [
    { where: "NVLink", hardware: SWITCHED_H100 },
    { where: "Ethernet", hardware: MINI_PCS },
  ].flatMap(({ where, hardware }) =>
    [
      { name: "tensor", of: tensorOf },
      { name: "split, N = 4", of: (ranks: number) => layerOf(ranks, 4, true) },
      { name: "split, N = 8", of: (ranks: number) => layerOf(ranks, 8, true) },
    ].map(({ name, of }) => {
      const draft = where === "NVLink" ? LLAMA_3.draft : quantised(LLAMA_3).draft
      const step = (ranks: number) => stepMillis(of(ranks), draft, withDevices(hardware, ranks))
      return { name: `${where}, ${name}`, points: RANKS.map((ranks) => [ranks, step(ranks)] as const) }
    }),
  ),
}

/** The draft's ranks and depth are those that are best for each N. */
const speedUpByN: Chart = {
  title: "Llama-3 70B / 8B, a generation: speed-up over plain decoding, acceptance of the coder pair",
  x: "N, attention layers at once (1: exact)",
  y: "speed-up",
  linear: true,
  series: SETTINGS.flatMap(({ name, hardware, pair }) => {
    const price = pricesOn(hardware)
    const plain = quickest(price, baseDivisions(hardware, pair, CONTEXT), pair.base, { rows: 1, context: CONTEXT })
    if (plain === undefined) return []
    const ranks = [4, 8].filter((ranks) => ranks <= allOf(hardware))
    const best = (n: number) =>
      bestOf(
        price,
        pair,
        plain.division,
        ranks.map((ranks) => layerOf(ranks, n, true)),
        CONTEXT,
      ).speedUp
    return [{ name, points: [...measuredN].sort((a, b) => a - b).map((n) => [n, best(n)] as const) }]
  }),
}

const PICTURES = [
  { file: "docs/paper-n.svg", chart: byN },
  { file: "docs/paper-context.svg", chart: byContext },
  { file: "docs/paper-ranks.svg", chart: byRanks },
  { file: "docs/paper-speedup.svg", chart: speedUpByN },
]

export const writePictures = (): void => {
  for (const { file, chart } of PICTURES) writeChart(file, chart)
}

/** In Markdown, for a page in bench/. */
export const pictures: string = PICTURES.map(({ file, chart }) => `![${chart.title}](../${file})`).join("\n\n")

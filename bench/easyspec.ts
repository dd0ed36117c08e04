// What do EasySpec's parts do to the draft? Mean accepted length and cosine of hidden states by N, with and without bonus
// calibration, attention alone against whole layers in parallel (arXiv 2502.02493, sections 3 and 5.3). Runs on one engine
// in this process: it measures what is accepted, which does not depend on where layers run.
import type { Benchmark, Report, RunOptions } from "./benchmark.ts"
import { acceptedLengths, cosines, type Text, type Variant } from "./easyspec/draft.ts"
import { ENGLISH, TYPESCRIPT } from "./easyspec/texts.ts"
import { decode, type Loaded, load, prefill, withSession } from "./engine.ts"
import { humanEval } from "./humaneval/prompts.ts"
import { type ModelName, pathsOf } from "./models.ts"
import { mean, standardError } from "./statistics.ts"

const DEPTH = 5
const THREADS = 1 // what is measured does not depend on speed, so the machine stays free for other things

interface Pair {
  readonly name: string
  readonly title: string
  readonly base: ModelName
  readonly draft: ModelName
  readonly prompts: (options: RunOptions) => ReadonlyArray<string>
}

const PAIRS: ReadonlyArray<Pair> = [
  {
    ...{ name: "demo", title: "The demo pair", base: "demo/base", draft: "demo/draft" },
    prompts: ({ quick }) => TYPESCRIPT.slice(0, quick ? 2 : undefined),
  },
  {
    ...{ name: "smollm2", title: "SmolLM2-135M as its own draft", base: "smollm2", draft: "smollm2" },
    prompts: ({ quick }) => ENGLISH.slice(0, quick ? 2 : undefined),
  },
  {
    ...{ name: "coder", title: "Qwen2.5-Coder, 0.5B drafting for 1.5B", base: "coder-1.5b", draft: "coder-0.5b" },
    prompts: ({ quick, say }) => humanEval(quick ? [4] : [0, 4, 11], say),
  },
]

interface Measured {
  readonly accepted: number
  readonly error: number // standard error of the mean
  readonly iterations: number
  readonly cosine: { readonly least: number; readonly mean: number; readonly last: number }
}

interface ByN {
  readonly n: number
  readonly calibrated: Measured
  readonly uncalibrated: Measured
  readonly whole: Measured
}

export const easyspec: Benchmark = {
  name: "easyspec",
  question: "what EasySpec's parts do: accepted length and cosine of hidden states by N, calibration, ablations",
  ratios: {
    "PAIR.fuzzy4": "accepted length of the draft with N = 4, over the exact draft's (demo, smollm2, coder)",
    "PAIR.uncalibrated4": "N = 4 without bonus calibration, over N = 4 with it",
    "PAIR.whole4": "N = 4 with whole layers in parallel, over N = 4 with their attentions alone",
  },
  run: async (options) => {
    pathsOf(PAIRS.flatMap(({ base, draft }) => [base, draft]))
    const results: Array<{ readonly pair: Pair; readonly rows: ReadonlyArray<ByN>; readonly tokens: number }> = []
    for (const pair of PAIRS) results.push(await measurePair(pair, options))
    return reportOf(results)
  },
}

const measurePair = async (pair: Pair, options: RunOptions) => {
  const paths = pathsOf([pair.base, pair.draft])
  const count = options.quick ? 48 : 96
  const base = await load(paths[pair.base], { threads: THREADS })
  const texts: Array<Text> = []
  for (const prompt of pair.prompts(options)) {
    options.say(`${pair.name}: the base's text ${texts.length + 1}`)
    texts.push(await textOf(base, prompt, count))
  }
  const draft = pair.base === pair.draft ? base : await load(paths[pair.draft], { threads: THREADS })
  try {
    const rows: Array<ByN> = []
    for (const n of options.quick ? [1, 2, 4] : [1, 2, 3, 4, 5, 6])
      rows.push(await measureN(pair, draft, texts, n, options))
    return { pair, rows, tokens: texts.reduce((sum, { tokens, prompt }) => sum + tokens.length - prompt, 0) }
  } finally {
    draft.engine.dispose()
    if (draft !== base) base.engine.dispose()
  }
}

const textOf = (base: Loaded, prompt: string, count: number): Promise<Text> =>
  withSession(base, "text", async () => {
    const tokens = [...base.model.tokenizer.encode(prompt)]
    await prefill(base, "text", tokens.slice(0, -1))
    return { tokens: [...tokens, ...(await decode(base, "text", tokens.at(-1) ?? 0, count))], prompt: tokens.length }
  })

const measureN = async (
  pair: Pair,
  draft: Loaded,
  texts: ReadonlyArray<Text>,
  n: number,
  { say }: RunOptions,
): Promise<ByN> => {
  const measured = async (name: string, variant: Variant): Promise<Measured> => {
    const lengths: Array<number> = []
    const layers: Array<ReadonlyArray<number>> = []
    for (const text of texts) {
      lengths.push(...(await acceptedLengths(draft, text, DEPTH, variant)))
      layers.push(await cosines(draft, text, variant))
    }
    const byLayer = (layers[0] ?? []).map((_, layer) => mean(layers.map((text) => text[layer] ?? Number.NaN)))
    const cosine = { least: Math.min(...byLayer), mean: mean(byLayer), last: byLayer.at(-1) ?? Number.NaN }
    say(`${pair.name}: N = ${n}, ${name}: ${mean(lengths).toFixed(2)} of ${DEPTH} accepted`)
    return { accepted: mean(lengths), error: standardError(lengths), iterations: lengths.length, cosine }
  }
  const calibrated = await measured("calibrated", { n, calibrate: true, whole: false })
  if (n === 1) return { n, calibrated, uncalibrated: calibrated, whole: calibrated } // groups of one layer: nothing is fuzzy
  return {
    n,
    calibrated,
    uncalibrated: await measured("not calibrated", { n, calibrate: false, whole: false }),
    whole: await measured("whole layers", { n, calibrate: true, whole: true }),
  }
}

const reportOf = (
  results: ReadonlyArray<{ readonly pair: Pair; readonly rows: ReadonlyArray<ByN>; readonly tokens: number }>,
): Report => {
  const ratios: Record<string, number> = {}
  const sections = results.map(({ pair, rows, tokens }) => {
    const [exact] = rows
    const four = rows.find(({ n }) => n === 4)
    if (exact !== undefined && four !== undefined) {
      ratios[`${pair.name}.fuzzy4`] = four.calibrated.accepted / exact.calibrated.accepted
      ratios[`${pair.name}.uncalibrated4`] = four.uncalibrated.accepted / four.calibrated.accepted
      ratios[`${pair.name}.whole4`] = four.whole.accepted / four.calibrated.accepted
    }
    return [
      `### ${pair.title}`,
      "",
      `Along ${tokens} tokens that the base made greedily.`,
      "",
      "| N | accepted of 5 | without calibration | whole layers in parallel | cosine, least / mean / last layer | the same, whole layers |",
      "|---|---|---|---|---|---|",
      ...rows.map(
        ({ n, calibrated, uncalibrated, whole }) =>
          `| ${n === 1 ? "1 (exact)" : n} | ${showAccepted(calibrated)} | ${showAccepted(uncalibrated)} | ${showAccepted(whole)} | ${showCosine(calibrated)} | ${showCosine(whole)} |`,
      ),
    ].join("\n")
  })
  const intro =
    "Mean accepted length of a chain of five drafted greedily, the bonus token not counted, with its standard error; cosine of the hidden state after each layer, exact against fuzzy, of four tokens drafted after an exact prefix."
  return {
    ratios,
    details: Object.fromEntries(results.map(({ pair, rows }) => [pair.name, rows])),
    title: "EasySpec: what its parts do",
    markdown: [intro, ...sections].join("\n\n"),
  }
}

const showAccepted = ({ accepted, error }: Measured) => `${accepted.toFixed(2)} ± ${error.toFixed(2)}`
const showCosine = ({ cosine: { least, mean, last } }: Measured) =>
  [least, mean, last].map((value) => value.toFixed(3)).join(" / ")

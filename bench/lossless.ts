// How often would speculation change a token? Tokens are decoded one by one, then chosen again from the rows of batches, as
// a verify pass chooses them. With `deterministic` none differs, and a difference fails the benchmark; in the fast setting
// it says how many do, and by how much logits differ.
import type { Sampling } from "../native/index.ts"
import type { Benchmark, RunOptions } from "./benchmark.ts"
import { ENGLISH, TYPESCRIPT } from "./easyspec/texts.ts"
import { append, commitAll, exactOps, type Loaded, load, prefill, tokenAfter } from "./engine.ts"
import { BenchFailed } from "./failure.ts"
import { humanEval } from "./humaneval/prompts.ts"
import { THREADS } from "./machine.ts"
import { type ModelName, pathsOf } from "./models.ts"

const ROWS = [2, 5, 9, 33, 65] // of a batch
const TEMPERATURES = [0, 0.8]
const SESSION = "lossless"

interface Subject {
  readonly name: string
  readonly model: ModelName
  readonly prompts: (options: RunOptions) => ReadonlyArray<string>
}

const SUBJECTS: ReadonlyArray<Subject> = [
  { name: "demo", model: "demo/base", prompts: () => TYPESCRIPT.slice(0, 6) },
  { name: "smollm2", model: "smollm2", prompts: () => ENGLISH.slice(0, 4) },
  { name: "coder-1.5b", model: "coder-1.5b", prompts: ({ say }) => humanEval([0], say) },
]

interface Differences {
  readonly tokens: number // chosen again
  readonly different: number
  readonly logits: number // the largest difference of one
}

export const lossless: Benchmark = {
  name: "lossless",
  question: "how often tokens chosen in a batch differ from those decoded one by one, with and without `deterministic`",
  ratios: {
    "MODEL.deterministic":
      "tokens that differ, of those chosen, with `deterministic`; it is 0 (demo, smollm2, coder-1.5b)",
    "MODEL.fast": "the same without",
  },
  run: async (options) => {
    const paths = pathsOf(SUBJECTS.map(({ model }) => model))
    const ratios: Record<string, number> = {}
    const rows: Array<string> = []
    for (const { name, model, prompts } of SUBJECTS) {
      const texts = prompts(options).slice(0, options.quick ? 1 : undefined)
      for (const deterministic of [true, false]) {
        options.say(`${name}, ${deterministic ? "deterministic" : "fast"}`)
        const loaded = await load(paths[model], { threads: THREADS, deterministic })
        const found = await differencesOf(loaded, texts, options.quick ? 24 : 64).finally(() => loaded.engine.dispose())
        if (deterministic && (found.different > 0 || found.logits > 0)) {
          throw new BenchFailed(`${name}: rows depend on their batch with \`deterministic\`. Please report it.`)
        }
        ratios[`${name}.${deterministic ? "deterministic" : "fast"}`] = found.different / found.tokens
        rows.push(
          `| ${name} | ${deterministic ? "yes" : "no"} | ${found.tokens} | ${found.different} | ${found.logits === 0 ? "0" : found.logits.toExponential(1)} |`,
        )
      }
    }
    return {
      ratios,
      details: {},
      title: "Lossless",
      markdown: `${THREADS} threads, temperatures ${TEMPERATURES.join(" and ")}. Tokens decoded one by one are chosen again from batches of ${ROWS.join(", ")} rows; largest difference of a logit.\n\n| model | deterministic | tokens | different | logits |\n|---|---|---|---|---|\n${rows.join("\n")}\n\nWithout \`deterministic\` a row takes other kernels alone than among others: weights that are not quantised have a path for one row, attention one for a single query and one for 64 and more, and K types without kernels of our own are interleaved, with paths for one row and for four. Each rounds in its own way; where two tokens are close, the other one wins.`,
    }
  },
}

const differencesOf = async (loaded: Loaded, prompts: ReadonlyArray<string>, count: number): Promise<Differences> => {
  let [tokens, different, logits] = [0, 0, 0]
  for (const [i, prompt] of prompts.entries()) {
    const prefix = [...loaded.model.tokenizer.encode(prompt)]
    for (const temperature of TEMPERATURES) {
      const alone = await oneByOne(loaded, prefix, samplingOf(temperature, i), count)
      for (const rows of ROWS) {
        const together = await inBatches(loaded, prefix, samplingOf(temperature, i), alone, rows)
        tokens += together.tokens.length
        different += together.tokens.filter((token, at) => token !== alone.tokens[at]).length
        logits = Math.max(logits, distance(together.last, alone.last))
      }
    }
  }
  return { tokens, different, logits }
}

const samplingOf = (temperature: number, seed: number): Sampling => ({
  ...{ temperature, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 },
  seed: BigInt(seed),
})

interface Chosen {
  readonly tokens: ReadonlyArray<number>
  readonly last: Float32Array // the logits of the last row
}

const oneByOne = async (
  loaded: Loaded,
  prefix: ReadonlyArray<number>,
  sampling: Sampling,
  count: number,
): Promise<Chosen> => {
  const { engine, model } = loaded
  engine.open(SESSION, sampling)
  await prefill(loaded, SESSION, prefix.slice(0, -1))
  const tokens: Array<number> = []
  for (let token = prefix.at(-1) ?? 0; tokens.length < count; tokens.push(token)) {
    const result = await append(loaded, SESSION, [token], [...exactOps(model), tokenAfter(0)])
    await commitAll(loaded, SESSION)
    token = result.tokens?.[0] ?? 0
  }
  engine.truncate(SESSION, engine.committed(SESSION) - 1)
  const last = await logitsAfter(loaded, [tokens.at(-2) ?? 0])
  engine.close(SESSION)
  return { tokens, last }
}

/** The same tokens as rows of batches; what is chosen after each. */
const inBatches = async (
  loaded: Loaded,
  prefix: ReadonlyArray<number>,
  sampling: Sampling,
  { tokens }: Chosen,
  size: number,
): Promise<Chosen> => {
  const { engine, model } = loaded
  engine.open(SESSION, sampling)
  await prefill(loaded, SESSION, prefix.slice(0, -1))
  const inputs = [prefix.at(-1) ?? 0, ...tokens.slice(0, -1)]
  const chosen: Array<number> = []
  for (let from = 0; from < inputs.length; from += size) {
    const rows = inputs.slice(from, from + size)
    const head = { op: "head", rows: Int32Array.from(rows.keys()), want: "tokens" } as const
    const result = await append(loaded, SESSION, rows, [...exactOps(model), head])
    chosen.push(...(result.tokens ?? []))
    await commitAll(loaded, SESSION)
  }
  const batch = inputs.slice(-size)
  engine.truncate(SESSION, engine.committed(SESSION) - batch.length)
  const last = await logitsAfter(loaded, batch)
  engine.close(SESSION)
  return { tokens: chosen, last }
}

const logitsAfter = async (loaded: Loaded, rows: ReadonlyArray<number>): Promise<Float32Array> => {
  const head = { op: "head", rows: Int32Array.of(rows.length - 1), want: "logits" } as const
  const { logits } = await append(loaded, SESSION, rows, [...exactOps(loaded.model), head])
  return logits ?? new Float32Array(0)
}

const distance = (one: Float32Array, other: Float32Array): number =>
  one.reduce((most, value, i) => Math.max(most, Math.abs(value - (other[i] ?? Number.NaN))), 0)

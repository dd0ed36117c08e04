// How fast is one rank, and does adaptive speculation ever cost anything? One rank against llama.cpp on the same file with
// the same threads; what `deterministic` costs; adaptive speculation over a real cluster against its own plain decoding.
// Both sides of a ratio run in turn, in many short rounds, so that a machine that is busy now and then is so for both.
import type { Benchmark, RunOptions } from "./benchmark.ts"
import { append, exactOps, type Loaded, load, prefill, tokenAfter, withSession } from "./engine.ts"
import { quiet, THREADS } from "./machine.ts"
import { pathsOf } from "./models.ts"
import { installPeers } from "./peers/install.ts"
import { LlamaCpp } from "./peers/llamaCpp.ts"
import { measureSpeculation, type SpeculationResult, showSpeculation } from "./speculation.ts"
import { median, quantile, type Spread, showSpread, spreadOf } from "./statistics.ts"

const PROMPT = 64 // tokens
const CONTEXT = 1024
const UNDISTURBED = 0.1 // the quantile of a turn's passes that stands for it: the rest met with something else that ran
const PREFILLS = 3 // a turn
const MODELS = ["smollm2", "coder-1.5b"] as const
const WORDS = `Message queues carry what processes say to one another. A queue that is written to disk before it is
acknowledged loses nothing when a machine stops, and costs a write for every message; a queue in memory is fast and
forgets. Most systems need both: one for what can be said again, one for what cannot. The rest is bookkeeping, which
is to say numbers that only ever grow, and the patience to compare them before anything is believed.`

/** One side of a comparison: milliseconds of its parts. */
interface Side {
  readonly decode: () => Promise<ReadonlyArray<number>>
  readonly prefill: () => Promise<ReadonlyArray<number>>
  readonly verify?: () => Promise<ReadonlyArray<number>>
}
type Part = keyof Side

interface Compared {
  readonly ours: number // tokens/s; of a verify pass, rows/s
  readonly theirs: number
  readonly ratio: Spread // of speeds, ours over theirs
}

interface SpeedOfModel {
  readonly llamaCpp: { readonly decode: Compared; readonly prefill: Compared }
  readonly deterministic: { readonly decode: Compared; readonly verify: Compared; readonly prefill: Compared }
}

export const speed: Benchmark = {
  name: "speed",
  question: "one rank against llama.cpp, and adaptive speculation against plain decoding",
  ratios: {
    "MODEL.decode": "plain decoding, tokens/s over llama.cpp's (smollm2, coder-1.5b)",
    "MODEL.prefill": "prefill of 64 tokens, tokens/s over llama.cpp's",
    speculation: "adaptive speculation over plain decoding, total time of 10 HumanEval prompts",
    "MODEL.deterministic.PART":
      "speed with `deterministic` over without (decode, verify of 8 rows, prefill of 64 tokens)",
  },
  run: async (options) => {
    const paths = pathsOf(MODELS)
    installPeers(options.say)
    const results: Array<readonly [(typeof MODELS)[number], SpeedOfModel]> = []
    const busy = { rounds: 0 }
    let version = ""
    for (const name of MODELS) {
      options.say(`${name}: loading`)
      await using theirs = await LlamaCpp.start(paths[name], THREADS, CONTEXT)
      version = theirs.version
      const ours = await load(paths[name], { threads: THREADS })
      const fast = await load(paths[name], { threads: THREADS, deterministic: false })
      try {
        results.push([name, await measure(name, ours, fast, theirs, options, busy)])
      } finally {
        ours.engine.dispose()
        fast.engine.dispose()
      }
    }
    const speculation = await measureSpeculation(options)
    return reportOf(results, speculation, version, busy.rounds + speculation.busyRounds)
  },
}

const measure = async (
  name: string,
  ours: Loaded,
  fast: Loaded,
  theirs: LlamaCpp,
  options: RunOptions,
  busy: { rounds: number },
): Promise<SpeedOfModel> => {
  const tokens = [...ours.model.tokenizer.encode(WORDS)].slice(0, PROMPT)
  const count = options.quick ? 8 : 24
  const peer: Side = { decode: () => theirs.decode(tokens, count), prefill: () => theirs.prefill(tokens, PREFILLS) }
  const compared = async (part: Part, one: Side, other: Side, what: string): Promise<Compared> => {
    const figures: Array<readonly [number, number]> = []
    for (let round = 0; round < (options.quick ? 3 : 9); round++) {
      if (!(await quiet())) busy.rounds += 1
      // Which side begins changes from round to round. A part's first pass warms it up.
      const sides = round % 2 === 0 ? [one, other] : [other, one]
      const millis: Array<number> = []
      for (const side of sides) millis.push(quantile((await side[part]?.()) ?? [], UNDISTURBED))
      const [first = Number.NaN, second = Number.NaN] = millis
      if (round > 0) figures.push(round % 2 === 0 ? [first, second] : [second, first])
    }
    const rows = ROWS[part]
    const speedOf = (side: 0 | 1) => (1000 * rows) / median(figures.map((figure) => figure[side]))
    const ratio = spreadOf(figures.map(([mine, other]) => other / mine))
    options.say(`${name}: ${part} against ${what}: ${showSpread(ratio)}`)
    return { ours: speedOf(0), theirs: speedOf(1), ratio }
  }
  const [chorus, loose] = [sideOf(ours, tokens, count), sideOf(fast, tokens, count)]
  const parts = async (other: Side, what: string) => ({
    decode: await compared("decode", chorus, other, what),
    prefill: await compared("prefill", chorus, other, what),
  })
  return {
    llamaCpp: await parts(peer, "llama.cpp"),
    deterministic: {
      ...(await parts(loose, "not deterministic")),
      verify: await compared("verify", chorus, loose, "not deterministic"),
    },
  }
}

const VERIFIED = 8 // rows
const ROWS: Record<Part, number> = { decode: 1, verify: VERIFIED, prefill: PROMPT }

/** Our engine in this process. */
const sideOf = (loaded: Loaded, tokens: ReadonlyArray<number>, count: number): Required<Side> => {
  const { engine, model } = loaded
  const exact = exactOps(model)
  const timed = async (rows: ReadonlyArray<number>, head: boolean) => {
    const begun = performance.now()
    const result = await append(loaded, "speed", rows, head ? [...exact, tokenAfter(rows.length - 1)] : exact)
    return { millis: performance.now() - begun, next: result.tokens?.[0] ?? 0 }
  }
  return {
    prefill: async () => {
      const millis: Array<number> = []
      while (millis.length < PREFILLS)
        await withSession(loaded, "speed", async () => void millis.push((await timed(tokens, false)).millis))
      return millis
    },
    decode: () =>
      withSession(loaded, "speed", async () => {
        await prefill(loaded, "speed", tokens.slice(0, -1))
        const millis: Array<number> = []
        for (let token = tokens.at(-1) ?? 0; millis.length < count; ) {
          const step = await timed([token], true)
          token = step.next
          millis.push(step.millis)
        }
        return millis
      }),
    verify: () =>
      withSession(loaded, "speed", async () => {
        await prefill(loaded, "speed", tokens)
        const millis: Array<number> = []
        for (const _ of tokens.slice(0, VERIFIED)) {
          engine.truncate("speed", PROMPT)
          const begun = performance.now()
          const every: ReadonlyArray<number> = Array.from({ length: VERIFIED }, (_, row) => row)
          await append(loaded, "speed", tokens.slice(0, VERIFIED), [
            ...exact,
            { op: "head", rows: Int32Array.from(every), want: "tokens" },
          ])
          millis.push(performance.now() - begun)
        }
        return millis
      }),
  }
}

const reportOf = (
  results: ReadonlyArray<readonly [string, SpeedOfModel]>,
  speculation: SpeculationResult,
  version: string,
  busyRounds: number,
) => {
  const ratios: Record<string, number> = { speculation: speculation.ratio }
  const against: Array<string> = []
  const cost: Array<string> = []
  for (const [name, { llamaCpp, deterministic }] of results) {
    for (const part of ["decode", "prefill"] as const) {
      const { ours, theirs, ratio } = llamaCpp[part]
      ratios[`${name}.${part}`] = ratio.median
      against.push(`| ${name} | ${TITLES[part]} | ${ours.toFixed(1)} | ${theirs.toFixed(1)} | ${showSpread(ratio)} |`)
    }
    for (const part of ["decode", "verify", "prefill"] as const) {
      const { ours, theirs, ratio } = deterministic[part]
      ratios[`${name}.deterministic.${part}`] = ratio.median
      cost.push(`| ${name} | ${TITLES[part]} | ${ours.toFixed(1)} | ${theirs.toFixed(1)} | ${showSpread(ratio)} |`)
    }
  }
  return {
    ratios,
    details: { ...Object.fromEntries(results), speculation },
    title: "Speed",
    markdown: [
      `${THREADS} threads. Tokens a second, by the fastest tenth of a turn's passes, medians over turns; the ratio is the median of the ratios of rounds in which both sides had a turn, with the least and the largest.${busyRounds > 0 ? ` ${busyRounds} rounds found no quiet moment: something else was running.` : ""}`,
      `### One rank against llama.cpp\n\nThe same GGUF file by node-llama-cpp 3.22.1 (ggml ${version}), with its defaults.\n\n| model | what | Chorus | llama.cpp | ratio |\n|---|---|---|---|---|\n${against.join("\n")}`,
      `### What \`deterministic\` costs\n\n| model | what | deterministic | not | ratio |\n|---|---|---|---|---|\n${cost.join("\n")}`,
      showSpeculation(speculation),
    ].join("\n\n"),
  }
}

const TITLES: Record<Part, string> = {
  decode: "decoding",
  verify: `verifying ${VERIFIED} rows`,
  prefill: `prefill of ${PROMPT} tokens`,
}

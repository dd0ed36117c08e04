// Adaptive speculation with the coder pair over a real cluster, against plain decoding on the same cluster: part of `speed`.
import type { Client } from "../src/client/index.ts"
import type { Deployment } from "../src/wire/deployment.ts"
import type { RunOptions } from "./benchmark.ts"
import { withCluster } from "./cluster.ts"
import { humanEval } from "./humaneval/prompts.ts"
import { quiet, THREADS } from "./machine.ts"
import { pathsOf } from "./models.ts"
import { type Spread, showSpread, spreadOf } from "./statistics.ts"

const TASKS = [20, 33, 47, 58, 66, 79, 90, 101, 120, 140]

interface Timed {
  readonly tokens: number
  readonly millis: number // from the acceptance of the request to the last token
  readonly drafted: number // tokens that the draft proposed and the base accepted
}

export interface SpeculationResult {
  readonly adaptive: { readonly tokensPerSecond: number; readonly drafted: number }
  readonly plain: { readonly tokensPerSecond: number }
  readonly ratio: number // of total times, plain over adaptive
  readonly ratios: Spread // of single prompts
  readonly prompts: number
  readonly same: number // prompts whose tokens were the same both ways
  readonly busyRounds: number
}

/** Both kinds of decoding are asked in turn for every prompt; the adaptive control starts out knowing nothing. */
export const measureSpeculation = async ({ quick, say }: RunOptions): Promise<SpeculationResult> => {
  const paths = pathsOf(["coder-1.5b", "coder-0.5b"])
  const prompts = humanEval(quick ? TASKS.slice(0, 2) : TASKS, say)
  const group = { strategy: "single", ranks: 1, threads: THREADS, device: "auto" } as const
  const deployment: Deployment = {
    name: "bench",
    base: { ...group, name: "base", model: paths["coder-1.5b"] },
    draft: { ...group, name: "draft", model: paths["coder-0.5b"] },
    ...{ fuzzy: 1, deterministic: true, context: 1024, keepMillis: 0 }, // no prompt profits from the turn before
  }
  const maxTokens = quick ? 32 : 96
  return withCluster(deployment, say, async (client) => {
    let [same, busyRounds] = [0, 0]
    const all: Array<{ readonly plain: Timed; readonly adaptive: Timed }> = []
    await generate(client, prompts[0] ?? "", "none", 8) // the first passes map the weights
    for (const [i, prompt] of prompts.entries()) {
      if (!(await quiet())) busyRounds += 1
      const kinds = i % 2 === 0 ? (["none", "adaptive"] as const) : (["adaptive", "none"] as const)
      const runs = []
      for (const kind of kinds) runs.push({ kind, ...(await generate(client, prompt, kind, maxTokens)) })
      const [plain, adaptive] = [runs.find(({ kind }) => kind === "none"), runs.find(({ kind }) => kind === "adaptive")]
      if (plain === undefined || adaptive === undefined) continue
      if (plain.ids.join() === adaptive.ids.join()) same += 1
      all.push({ plain, adaptive })
      say(
        `prompt ${i + 1}: ${plain.tokens} tokens, plain ${(plain.millis / 1000).toFixed(1)} s, adaptive ${(adaptive.millis / 1000).toFixed(1)} s with ${adaptive.drafted} drafted`,
      )
    }
    const total = (kind: "plain" | "adaptive", what: keyof Timed) => all.reduce((sum, run) => sum + run[kind][what], 0)
    const speed = (kind: "plain" | "adaptive") => (1000 * total(kind, "tokens")) / total(kind, "millis")
    return {
      adaptive: {
        tokensPerSecond: speed("adaptive"),
        drafted: total("adaptive", "drafted") / total("adaptive", "tokens"),
      },
      plain: { tokensPerSecond: speed("plain") },
      ratio: total("plain", "millis") / total("adaptive", "millis"),
      ratios: spreadOf(all.map(({ plain, adaptive }) => plain.millis / adaptive.millis)),
      ...{ prompts: all.length, same, busyRounds },
    }
  })
}

const generate = async (client: Client, prompt: string, speculation: "none" | "adaptive", maxTokens: number) => {
  const generation = await client.generate({ prompt, speculation, maxTokens, temperature: 0 })
  const ids: Array<number> = []
  let drafted = 0
  for await (const { id, origin } of generation) {
    ids.push(id)
    if (origin === "drafted") drafted += 1
  }
  const { stats } = await generation.ending()
  return { ids, tokens: stats.tokens, millis: stats.millis, drafted }
}

export const showSpeculation = (result: SpeculationResult): string =>
  [
    "### Adaptive speculation against plain decoding",
    `Qwen2.5-Coder, 0.5B drafting for 1.5B, ${result.prompts} HumanEval prompts, greedy, over nats-server: one base rank and one draft rank, exact draft, both on all cores of the machine. Times are from the request to the last token, prefill of both models included; nothing was known of the pair at the beginning.`,
    `| | tokens/s | drafted and accepted |\n|---|---|---|\n| plain | ${result.plain.tokensPerSecond.toFixed(1)} | |\n| adaptive | ${result.adaptive.tokensPerSecond.toFixed(1)} | ${(100 * result.adaptive.drafted).toFixed(0)} % |`,
    `Ratio of total times: **${result.ratio.toFixed(3)}**; of single prompts: ${showSpread(result.ratios)}. The tokens were the same for ${result.same} of ${result.prompts} prompts.`,
  ].join("\n\n")

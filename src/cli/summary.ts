// What a generation took: the readable table of --stats, and the object of --json.
import type { ColdStart, GenerationStats, PassStats } from "../wire/infer.ts"
import { bytes, counted, grouped, milliseconds, per } from "./quantities.ts"
import { table } from "./table.ts"

const KINDS = ["prefill", "calibrate", "draft", "verify", "decode"] // in the order of an iteration

/** Lines for people. */
export const summary = (stats: GenerationStats): ReadonlyArray<string> => {
  const speed = `${stats.tokensPerSecond.toFixed(1)} tokens/s`
  const first = `the first after ${milliseconds(stats.firstTokenMillis)}`
  const accepted = `mean accepted length ${stats.meanAcceptedLength.toFixed(2)} drafted tokens an iteration`
  return [
    `${counted(stats.tokens, "token")} in ${milliseconds(stats.millis)}, ${first}; ${speed}`,
    `${counted(stats.iterations, "iteration")}; ${drafted(stats) ? accepted : "nothing was drafted"}`,
    ...(stats.coldStart === undefined ? [] : [coldStartLine(stats.coldStart)]),
    ...passTable(stats),
  ]
}

const coldStartLine = (parts: ColdStart): string => {
  const whole = Object.values(parts).reduce((sum, part) => sum + part, 0)
  const named = [
    `placement ${milliseconds(parts.placementMillis)}`,
    `process start ${milliseconds(parts.processStartMillis)}`,
    `model load ${milliseconds(parts.modelLoadMillis)}`,
    `prefill ${milliseconds(parts.prefillMillis)}`,
    `first token ${milliseconds(parts.firstTokenMillis)}`,
  ]
  return `cold start, from the request to the first token: ${milliseconds(whole)} (${named.join(", ")})`
}

const drafted = (stats: GenerationStats): boolean => (stats.passes.draft?.count ?? 0) > 0

const passTable = (stats: GenerationStats): ReadonlyArray<string> =>
  table(
    [
      { title: "pass", align: "left" },
      ...["count", "time", "a pass", "computing", "hops a pass", "messages", "bytes"].map((title) => ({
        title,
        align: "right" as const,
      })),
    ],
    kindsOf(stats).map(([kind, pass]) => [
      kind,
      grouped(pass.count),
      milliseconds(pass.millis),
      milliseconds(pass.count === 0 ? 0 : pass.millis / pass.count),
      milliseconds(pass.computeMillis),
      per(pass.hops, pass.count),
      grouped(pass.messages),
      bytes(pass.bytes),
    ]),
  )

const kindsOf = (stats: GenerationStats): ReadonlyArray<readonly [string, PassStats]> => {
  const known = KINDS.flatMap((kind) => {
    const pass = stats.passes[kind]
    return pass === undefined ? [] : [[kind, pass] as const]
  })
  const others = Object.entries(stats.passes).filter(([kind]) => !KINDS.includes(kind))
  return [...known, ...others].filter(([, { count }]) => count > 0)
}

/** The `stats` of --json. */
export const statsObject = (stats: GenerationStats) => ({
  promptTokens: stats.promptTokens,
  tokens: stats.tokens,
  milliseconds: stats.millis,
  firstTokenMilliseconds: stats.firstTokenMillis,
  tokensPerSecond: stats.tokensPerSecond,
  iterations: stats.iterations,
  meanAcceptedLength: stats.meanAcceptedLength,
  ...(stats.coldStart === undefined ? {} : { coldStart: stats.coldStart }),
  passes: Object.fromEntries(
    kindsOf(stats).map(([kind, pass]) => [
      kind,
      {
        count: pass.count,
        milliseconds: pass.millis,
        computeMilliseconds: pass.computeMillis,
        hops: pass.hops,
        messages: pass.messages,
        bytes: pass.bytes,
      },
    ]),
  ),
})

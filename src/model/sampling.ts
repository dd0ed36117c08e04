// How a model's makers want it sampled where a request does not say: what generation_config.json names, or a GGUF's entries
// general.sampling.*. The settings that vLLM and llama.cpp take from there, as far as the sampler has them.
import { join } from "node:path"
import { Schema } from "effect"
import type { SamplingDefaults } from "../wire/samplingDefaults.ts"
import { ModelUnsupported } from "./errors.ts"
import type { Metadata, MetadataValue } from "./formats/gguf.ts"
import { decodeJson, readJson } from "./formats/json.ts"

interface ModelSampling {
  readonly sampling: SamplingDefaults
  readonly warnings: ReadonlyArray<string> // of what is wanted there and not done here
}

const number = Schema.optionalKey(Schema.NullOr(Schema.Finite))

const GenerationConfig = Schema.Struct({
  do_sample: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
  temperature: number,
  top_k: number,
  top_p: number,
  min_p: number,
  repetition_penalty: number,
})

/** Other ways to choose tokens, and what of each asks for nothing, besides null and an empty list. */
const OTHERS_OF_FOLDERS: Readonly<Record<string, unknown>> = {
  ...{ typical_p: 1, epsilon_cutoff: 0, eta_cutoff: 0, penalty_alpha: 0, no_repeat_ngram_size: 0, num_beams: 1 },
  ...{ bad_words_ids: null, suppress_tokens: null, begin_suppress_tokens: null, sequence_bias: null },
}

export const folderSampling = (folder: string): ModelSampling => {
  const file = join(folder, "generation_config.json")
  const all = readJson(file, Schema.Record(Schema.String, Schema.Unknown)) ?? {}
  const { do_sample, ...config } = decodeJson(file, all, GenerationConfig)
  const temperature = do_sample === false ? 0 : config.temperature
  const sampling = checked(file, {
    temperature: ["temperature", temperature],
    topK: ["top_k", config.top_k],
    topP: ["top_p", config.top_p],
    minP: ["min_p", config.min_p],
    repetitionPenalty: ["repetition_penalty", config.repetition_penalty],
  })
  return { sampling, warnings: warningsOf(file, new Map(Object.entries(all)), OTHERS_OF_FOLDERS) }
}

const KEYS = {
  temperature: "general.sampling.temp",
  topK: "general.sampling.top_k",
  topP: "general.sampling.top_p",
  minP: "general.sampling.min_p",
  repetitionPenalty: "general.sampling.penalty_repeat",
} as const

const LAST = "general.sampling.penalty_last_n" // tokens that the penalty looks at; 0 is none of them

const OTHERS_OF_FILES: Readonly<Record<string, unknown>> = {
  ...{ "general.sampling.xtc_probability": 0, "general.sampling.mirostat": 0 },
}

export const ggufSampling = (file: string, metadata: Metadata): ModelSampling => {
  const entry = (key: string): readonly [string, number | undefined] => [key, numberOf(file, key, metadata.get(key))]
  const penalty = entry(KEYS.repetitionPenalty)
  const sampling = checked(file, {
    temperature: entry(KEYS.temperature),
    topK: entry(KEYS.topK),
    topP: entry(KEYS.topP),
    minP: entry(KEYS.minP),
    repetitionPenalty: metadata.get(LAST) === 0 ? [LAST, undefined] : penalty,
  })
  return { sampling, warnings: warningsOf(file, metadata, OTHERS_OF_FILES) }
}

const warningsOf = (
  file: string,
  given: ReadonlyMap<string, unknown>,
  others: Readonly<Record<string, unknown>>,
): ReadonlyArray<string> =>
  Object.entries(others).flatMap(([key, harmless]) => {
    const value = given.get(key) ?? null
    const asksForNothing = value === null || value === harmless || (Array.isArray(value) && value.length === 0)
    return asksForNothing ? [] : [`${file}: ${key} is not done here; what is sampled may differ from what it asks for`]
  })

const numberOf = (file: string, key: string, value: MetadataValue | undefined): number | undefined => {
  if (value === undefined) return undefined
  if (typeof value === "number") return shortest(value)
  throw new ModelUnsupported({ file, reason: `${key} is not one number` })
}

/** 0.95 where a float of 32 bits stands for it, so that a file and a folder of one model say the same. */
const shortest = (value: number): number => {
  for (let digits = 1; digits <= 9; digits++) {
    const rounded = Number(value.toPrecision(digits))
    if (Math.fround(rounded) === value) return rounded
  }
  return value
}

type Setting = keyof SamplingDefaults
type Given = Readonly<Record<Setting, readonly [key: string, value: number | null | undefined]>>

const BOUNDS: Readonly<Record<Setting, readonly [least: number, most: number]>> = {
  temperature: [0, 100],
  topK: [0, 2 ** 31 - 1],
  topP: [0, 1],
  minP: [0, 1],
  repetitionPenalty: [0.01, 100],
}

/** Below 0 these are off in both worlds: no cut, and the most probable token. */
const FROM_ZERO: ReadonlyArray<string> = ["temperature", "topK"]

const checked = (file: string, given: Given): SamplingDefaults => {
  const settings = Object.entries(given).flatMap(([name, [key, value]]) => {
    if (value === null || value === undefined) return []
    const setting = FROM_ZERO.includes(name) ? Math.max(0, value) : value
    const [least, most] = BOUNDS[name as Setting]
    if (setting < least || setting > most || (name === "topK" && !Number.isInteger(setting))) {
      const reason = `${key} is ${value}; possible is ${name === "topK" ? "a whole number" : "a number"} from ${least} to ${most}`
      throw new ModelUnsupported({ file, reason })
    }
    return [[name, setting] as const]
  })
  return Object.fromEntries(settings)
}

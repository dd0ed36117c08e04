// What chats and completions share on their way to a supervisor.
import type { InferRequest } from "../client/index.ts"
import type { SamplingDefaults } from "../wire/samplingDefaults.ts"
import type { Shared } from "./fields.ts"

const MOST_NAME = 256 // characters, on the wire

/** OpenAI's default, where neither the request nor the model says anything. */
const TEMPERATURE = 1

/** What a request without settings is sampled with. */
export const defaultsOf = ({ temperature, topK, topP, minP, repetitionPenalty }: SamplingDefaults) => ({
  temperature: temperature ?? TEMPERATURE,
  top_p: topP ?? 1,
  top_k: topK ?? 0,
  min_p: minP ?? 0,
  repetition_penalty: repetitionPenalty ?? 1,
})

/** What goes on to a supervisor. */
export const requestOf = (asked: Shared, client: string): InferRequest => {
  const { stop, seed } = asked
  const repetition = asked.repetition_penalty ?? asked.repeat_penalty
  return {
    client: client.slice(0, MOST_NAME),
    ...(asked.temperature == null ? { fallbackTemperature: TEMPERATURE } : { temperature: asked.temperature }),
    ...(asked.max_tokens == null ? {} : { maxTokens: asked.max_tokens }),
    ...(asked.top_p == null ? {} : { topP: asked.top_p }),
    ...(asked.top_k == null ? {} : { topK: Math.max(0, asked.top_k) }),
    ...(asked.min_p == null ? {} : { minP: asked.min_p }),
    ...(repetition == null ? {} : { repetitionPenalty: repetition }),
    ...(asked.presence_penalty == null ? {} : { presencePenalty: asked.presence_penalty }),
    ...(asked.frequency_penalty == null ? {} : { frequencyPenalty: asked.frequency_penalty }),
    ...(asked.logit_bias == null ? {} : { logitBias: asked.logit_bias }),
    ...(asked.min_tokens == null ? {} : { minTokens: asked.min_tokens }),
    ...(asked.ignore_eos == null ? {} : { ignoreEos: asked.ignore_eos }),
    ...(stop == null ? {} : { stop: typeof stop === "string" ? [stop] : stop }),
    ...(asked.add_special_tokens == null ? {} : { addSpecialTokens: asked.add_special_tokens }),
    ...(seed == null ? {} : { seed: BigInt.asUintN(64, BigInt(seed)) }),
  }
}

const GOLDEN = 0x9e3779b97f4a7c15n // of 64 bits, so that seeds lie far apart

/** The requests of n choices: the first has the seed itself, the others seeds that follow from it. */
export const choicesOf = (request: InferRequest, n: number): ReadonlyArray<InferRequest> =>
  Array.from({ length: n }, (_, choice) =>
    request.seed === undefined
      ? request
      : { ...request, seed: BigInt.asUintN(64, request.seed + BigInt(choice) * GOLDEN) },
  )

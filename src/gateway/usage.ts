// What a request is said to have used: the tokens of each prompt once, whatever the number of its choices, and all that was
// generated.
import type { Generations } from "./generations.ts"
import type { Chunk } from "./resumption.ts"

export const usageOf = ({ promptTokens }: Generations, prompts: number, generated: ReadonlyArray<number>) => {
  const choices = promptTokens.length / prompts
  const prompt_tokens = sum(promptTokens.filter((_, choice) => choice % choices === 0))
  const completion_tokens = sum(generated)
  return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
}

const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((total, number) => total + number, 0)

type StreamOptions = {
  readonly include_usage?: boolean | null
  readonly continuous_usage_stats?: boolean | null
} | null

/** The usage in a stream of chunks, where it is asked for: at its end, and so far with each. */
export const usageInStream = (
  options: StreamOptions | undefined,
  usageAfter: (generated: ReadonlyArray<number>) => object,
) => {
  const wanted = options?.include_usage === true
  const each = wanted && options.continuous_usage_stats === true
  return {
    withChunk: (generated: ReadonlyArray<number>) => (wanted ? { usage: each ? usageAfter(generated) : null } : {}),
    last: (generated: ReadonlyArray<number>, head: object): ReadonlyArray<Chunk> =>
      wanted ? [{ choice: generated.length - 1, data: { ...head, choices: [], usage: usageAfter(generated) } }] : [],
  }
}

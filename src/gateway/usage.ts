// What a request is said to have used: the tokens of each prompt once, whatever the number of its choices, and all that was
// generated.
import type { Chunk } from "./resumption.ts"

/** What one choice has used so far. */
export interface Used {
  readonly tokens: number // generated
  readonly reusedTokens: number // of the prompt; known when the choice has ended
}

export const NOTHING_USED: Used = { tokens: 0, reusedTokens: 0 }

export const withToken = ({ tokens, reusedTokens }: Used = NOTHING_USED): Used => ({ tokens: tokens + 1, reusedTokens })

/** `promptTokens`: of each choice. */
export const usageOf = (
  { promptTokens }: { readonly promptTokens: ReadonlyArray<number> },
  prompts: number,
  used: ReadonlyArray<Used>,
) => {
  const choices = promptTokens.length / prompts
  const first = (_: unknown, choice: number): boolean => choice % choices === 0
  const prompt_tokens = sum(promptTokens.filter(first))
  const cached_tokens = sum(used.filter(first).map(({ reusedTokens }) => reusedTokens))
  const completion_tokens = sum(used.map(({ tokens }) => tokens))
  return {
    ...{ prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens },
    prompt_tokens_details: { cached_tokens },
  }
}

const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((total, number) => total + number, 0)

type StreamOptions = {
  readonly include_usage?: boolean | null
  readonly continuous_usage_stats?: boolean | null
} | null

/** The usage in a stream of chunks, where it is asked for: at its end, and so far with each. */
export const usageInStream = (
  options: StreamOptions | undefined,
  usageAfter: (used: ReadonlyArray<Used>) => object,
) => {
  const wanted = options?.include_usage === true
  const each = wanted && options.continuous_usage_stats === true
  return {
    withChunk: (used: ReadonlyArray<Used>) => (wanted ? { usage: each ? usageAfter(used) : null } : {}),
    last: (used: ReadonlyArray<Used>, head: object): ReadonlyArray<Chunk> =>
      wanted ? [{ choice: used.length - 1, data: { ...head, choices: [], usage: usageAfter(used) } }] : [],
  }
}

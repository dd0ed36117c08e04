// What a request is said to have used: the tokens of each prompt once, whatever the number of its choices, and all that was
// generated.
import type { Generations } from "./generations.ts"

export const usageOf = ({ promptTokens }: Generations, prompts: number, generated: ReadonlyArray<number>) => {
  const choices = promptTokens.length / prompts
  const prompt_tokens = sum(promptTokens.filter((_, choice) => choice % choices === 0))
  const completion_tokens = sum(generated)
  return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
}

const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((total, number) => total + number, 0)

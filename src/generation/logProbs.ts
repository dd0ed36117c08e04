// Log-probabilities on their way from the passes to the log: asked for with each command, and told with each token.
import type { Tokenizer } from "../model/index.ts"
import type { TokenLogProbs } from "../wire/infer.ts"
import type { RowLogProbs } from "../wire/pass.ts"
import type { GenerateRequest } from "./state.ts"

/** What a command says of them. */
export const asked = ({ logprobs }: GenerateRequest): { readonly logprobs?: number } =>
  logprobs === null ? {} : { logprobs }

/** Those of one row of a pass; nothing where none were asked for. */
export const ofRow = (
  rows: RowLogProbs | undefined,
  row: number,
  tokenizer: Tokenizer,
): TokenLogProbs | Record<never, never> => {
  const logProb = rows?.chosen[row]
  if (rows === undefined || logProb === undefined) return {}
  const each = rows.tokens.length / rows.chosen.length
  const top = rows.tokens.slice(row * each, (row + 1) * each).map((id, i) => ({
    ...{ id, logProb: rows.logProbs[row * each + i] ?? logProb },
    text: new TextDecoder().decode(tokenizer.bytes(id)),
  }))
  return { logProb, top }
}

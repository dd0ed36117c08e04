// Log-probabilities on their way from the passes to the log: asked for with each command, and told with each token.
import { Effect } from "effect"
import type { Tokenizer } from "../model/index.ts"
import type { PromptToken, TokenLogProbs } from "../wire/infer.ts"
import type { Prefill, RowLogProbs } from "../wire/pass.ts"
import { commit } from "./commit.ts"
import type { GenerateRequest } from "./request.ts"
import type { Unplaced } from "./state.ts"

/** What a command says of them. */
export const asked = ({ logprobs }: GenerateRequest): { readonly logprobs?: number } =>
  logprobs === null ? {} : { logprobs }

/** Those of one row of a pass, after which the token `id` comes; nothing where none were asked for. */
export const ofRow = (
  rows: RowLogProbs | undefined,
  row: number,
  id: number,
  tokenizer: Tokenizer,
): TokenLogProbs | undefined => {
  const logProb = rows?.chosen[row]
  if (rows === undefined || logProb === undefined) return undefined
  const each = rows.tokens.length / rows.chosen.length
  const top = rows.tokens.slice(row * each, (row + 1) * each).map((id, i) => {
    const bytes = tokenizer.bytes(id)
    return { id, logProb: rows.logProbs[row * each + i] ?? logProb, text: new TextDecoder().decode(bytes), bytes }
  })
  return { ...ownOf(id, tokenizer), logProb, top }
}

const ownOf = (id: number, tokenizer: Tokenizer): Pick<TokenLogProbs, "bytes" | "control"> => ({
  bytes: tokenizer.bytes(id),
  ...(tokenizer.isControl(id) ? { control: true } : {}),
})

/** Whether the log still lacks tokens of the prompt. */
export const owesPrompt = ({ run: { request }, journal }: Unplaced): boolean =>
  request.promptLogprobs !== null && journal.prompt.length < request.prompt.length

interface Chunk {
  readonly from: number
  readonly to: number
}

/** What the command for a chunk of the tokens says of the prompt's log-probabilities. */
export const scored = (generation: Unplaced, { from, to }: Chunk): Pick<Prefill, "scored"> => {
  const { run, journal } = generation
  const following = journal.tokens[to]
  if (!owesPrompt(generation) || following === undefined || to === from) return {}
  return { scored: { following, alternatives: run.request.promptLogprobs ?? 0 } }
}

/** Into the log, with the first token of all, which has none. */
export const tellPrompt = Effect.fnUntraced(function* (
  generation: Unplaced,
  { from, to }: Chunk,
  rows: RowLogProbs | undefined,
) {
  const { request, epoch, tokenizer } = generation.run
  const told: Array<PromptToken> = []
  const first = generation.journal.prompt.length
  for (const [i, id] of request.prompt.slice(first, to + 1).entries()) {
    told.push({ id, ...ownOf(id, tokenizer), ...ofRow(rows, first + i - from - 1, id, tokenizer) })
  }
  if (told.length > 0) yield* commit(generation, { _tag: "Prompt", epoch, at: 0, from: first, tokens: told })
})

// The trace of an iteration: told only where the request asks for it, and nothing depends on it.
import { Effect } from "effect"
import { Traces } from "../bus/traces.ts"
import type { Tokenizer } from "../model/index.ts"
import type { Accepted } from "../speculation/acceptance.ts"
import type { DraftedTree } from "../wire/pass.ts"
import type { Generation } from "./state.ts"

interface Iteration extends Accepted {
  readonly tree: DraftedTree
  readonly millis: number
}

/** To be called before the iteration's tokens become the generation's. */
export const trace = Effect.fnUntraced(function* (
  { request, tokens: known }: Generation,
  tokenizer: Tokenizer,
  { tree, path, tokens, millis }: Iteration,
) {
  if (!request.trace) return
  const { publish } = yield* Traces
  const textOf = (id: number): string => Buffer.from(tokenizer.bytes(id)).toString()
  yield* publish(request.session, {
    _tag: "Iteration",
    at: known.length - request.prompt.length,
    root: textOf(known.at(-1) ?? 0),
    tokens: tree.tokens.map((id) => ({ id, text: textOf(id) })),
    parents: tree.parents,
    logProbs: tree.logProbs,
    path,
    bonus: textOf(tokens.at(-1) ?? 0),
    fuzzy: request.fuzzy,
    millis,
  })
})

// The trace of an iteration: told only where the request asks for it, and nothing depends on it.
import { Effect } from "effect"
import { Traces } from "../bus/traces.ts"
import type { Accepted } from "../speculation/acceptance.ts"
import type { Proposal } from "./proposer.ts"
import type { Unplaced } from "./state.ts"

interface Iteration extends Accepted {
  readonly tree: Proposal
  readonly millis: number
}

/** To be called before the iteration's tokens are in the journal. */
export const trace = Effect.fnUntraced(function* (
  { run: { request, tokenizer }, journal: { tokens: known } }: Unplaced,
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

// Generate: the workflow of one generation. The iteration is EasySpec's: calibrate and draft in the draft group, verify in
// the base group, accept, commit.
import { Effect, Layer } from "effect"
import { Workflow, WorkflowEngine } from "effect/workflow"
import type { Tokenizer } from "../model/index.ts"
import { accept } from "../speculation/acceptance.ts"
import type { FinishReason, LoggedToken, TokenOrigin } from "../wire/infer.ts"
import { commit, written } from "./commit.ts"
import { begin, choose, learn, nothing, prepares } from "./control.ts"
import { catchUp, draft } from "./draft.ts"
import { GenerateError } from "./errors.ts"
import { Cancellation, GenerateRequest, type Generation, Models } from "./generation.ts"
import { prefill } from "./prefill.ts"
import { Tally } from "./stats.ts"
import { Transcript } from "./transcript.ts"
import { type Proposed, verify } from "./verify.ts"

export const Generate = Workflow.make("Generate", {
  payload: GenerateRequest,
  error: GenerateError,
  idempotencyKey: ({ session }) => session,
})

/**
 * Runs a generation to its end, which its log tells. The token log is its journal, so the engine's own memory of the
 * activities is of no further use and goes with it.
 */
export const generate = (request: GenerateRequest) =>
  Generate.execute(request).pipe(
    Effect.provide(Generate.toLayer(workflow).pipe(Layer.provideMerge(WorkflowEngine.layerMemory))),
  )

const workflow = Effect.fnUntraced(function* (request: GenerateRequest) {
  const models = yield* Models
  const cancellation = yield* Cancellation
  const generation: Generation = {
    request,
    scope: yield* Effect.scope,
    transcript: new Transcript(models.tokenizer, request.stop),
    tally: new Tally(request.prompt.length),
    tokens: [...request.prompt],
    base: { committed: 0, keep: [] },
    draft: { committed: 0 },
    passes: 0,
    adaptive: begin(request, models),
    measured: nothing(),
    finish: null,
    written: null,
  }
  yield* Effect.raceFirst(iterate(generation), cancellation.of(request.session)).pipe(
    Effect.matchEffect({
      onSuccess: (finish) => end(generation, finish, ""),
      onFailure: (error) =>
        error._tag === "Cancelled" ? end(generation, "cancelled", "") : end(generation, "failed", error.message),
    }),
    Effect.ensuring(release(generation)),
  )
}, Effect.scoped)

const iterate = Effect.fnUntraced(function* (generation: Generation) {
  const models = yield* Models
  const last = generation.tokens.length - 1
  yield* prefill(generation, models.base, 0, last)
  generation.base = { committed: last, keep: [] }
  if (models.draft !== null && prepares(generation)) yield* catchUp(generation, models.draft)
  learn(generation, models, null)
  generation.tally.prefilled()
  for (;;) {
    yield* iteration(generation)
    if (generation.finish !== null) return generation.finish
  }
})

const PLAIN: Proposed = { tokens: [], parents: [] }

const iteration = Effect.fnUntraced(function* (generation: Generation) {
  const models = yield* Models
  const began = performance.now()
  const shape = choose(generation, models)
  const drafted = shape === null || models.draft === null ? null : yield* draft(generation, models.draft, shape)
  const tree = drafted?.answer ?? PLAIN
  const verified = yield* verify(generation, models.base, tree)
  const { path, tokens } = accept(tree, verified.answer.choices)
  learn(generation, models, { shape, accepted: path.length, millis: performance.now() - began })
  const at = generation.tokens.length - generation.request.prompt.length
  const logged = take(models.tokenizer, generation, tokens, path.length, drafted === null ? "plain" : "corrected")
  generation.base = {
    committed: generation.base.committed + generation.base.keep.length,
    keep: [0, ...path.map((node) => node + 1)], // row 0 is the root's
  }
  generation.tally.iteration(logged.length, path.length)
  if (logged.length > 0)
    yield* commit(generation, { _tag: "Tokens", epoch: generation.request.epoch, at, tokens: logged })
})

/** Adds accepted tokens to the answer, up to the one that ends it. */
const take = (
  tokenizer: Tokenizer,
  generation: Generation,
  tokens: ReadonlyArray<number>,
  drafted: number,
  last: TokenOrigin,
): ReadonlyArray<LoggedToken> => {
  const { request, transcript } = generation
  const taken: Array<LoggedToken> = []
  for (const [i, id] of tokens.entries()) {
    if (tokenizer.isEnd(id)) {
      generation.finish = "stop"
      break
    }
    generation.tokens.push(id)
    taken.push({ id, text: transcript.push(id), origin: i < drafted ? "drafted" : last })
    if (transcript.stopped) generation.finish = "stop"
    else if (generation.tokens.length - request.prompt.length === request.maxTokens) generation.finish = "length"
    if (generation.finish !== null) break
  }
  return taken
}

/** The log's last entry: how it ended, the text that was held back, and what it took. */
const end = Effect.fnUntraced(function* (generation: Generation, finishReason: FinishReason, error: string) {
  const { request, transcript, tally, tokens } = generation
  yield* commit(generation, {
    _tag: "End",
    epoch: request.epoch,
    at: tokens.length - request.prompt.length,
    text: transcript.end(),
    finishReason,
    error,
    stats: tally.read(),
  })
  yield* written(generation)
})

/** Frees the session's KV on every rank, and stops what may still run for it. */
const release = Effect.fnUntraced(function* ({ request: { session }, finish }: Generation) {
  const { base, draft } = yield* Models
  const _tag = finish === null ? "Abort" : "Release"
  yield* base.control({ _tag, session })
  if (draft !== null) yield* draft.control({ _tag, session })
})

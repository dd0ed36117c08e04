// Generate: the workflow of one generation. The iteration is EasySpec's: calibrate and draft in the draft group, verify in
// the base group, accept, commit.
import { Effect, Exit, Schedule, Scope } from "effect"
import { Workflow } from "effect/workflow"
import { giveUp } from "../durable/engine.ts"
import { Ownership } from "../durable/ownership.ts"
import { OwnJournal } from "../durable/runs.ts"
import type { Group } from "../group/group.ts"
import type { Tokenizer } from "../model/index.ts"
import { accept } from "../speculation/acceptance.ts"
import type { TreeShape } from "../speculation/tree.ts"
import { TokenLog } from "../store/tokenLog.ts"
import { GroupSilent } from "../wire/errors.ts"
import { Answer, type FinishReason, type LoggedToken, logProbsOf, type TokenOrigin } from "../wire/infer.ts"
import { GREEDY } from "../wire/pass.ts"
import { commit, written } from "./commit.ts"
import { decode } from "./decode.ts"
import { catchUp, draft, firstLook } from "./draft.ts"
import { GenerateError } from "./errors.ts"
import { ofRow, owesPrompt } from "./logProbs.ts"
import { outlasting } from "./lossPolicy.ts"
import { prefill, prefillApart } from "./prefill.ts"
import type { Reuse } from "./prefixes.ts"
import { GenerateRequest } from "./request.ts"
import { begun, finishOf, type Journal, type Run, recover, restore } from "./restore.ts"
import { Admitted, Cancellation, Models, SessionPlace } from "./services.ts"
import { begin, choose, learn, left, prepares, wonders } from "./speculationControl.ts"
import type { Generation } from "./state.ts"
import { Tally } from "./stats.ts"
import { trace } from "./trace.ts"
import { verify } from "./verify.ts"

/** Its token log is its journal: what the passes gave need not be kept besides. */
export const Generate = Workflow.make("Generate", {
  payload: GenerateRequest,
  success: Answer,
  error: GenerateError,
  idempotencyKey: ({ session }) => session,
}).annotate(OwnJournal, true)

/** The least that is a request: the session alone makes the name. */
const NAMELESS: Omit<GenerateRequest, "session"> = {
  ...{ prompt: [0], maxTokens: 1, minTokens: 0, ignoreEos: false, sampling: GREEDY, stop: [], speculation: "none" },
  ...{
    fuzzy: 1,
    trace: false,
    logprobs: null,
    promptLogprobs: null,
    model: "",
    client: null,
    deadlineMillis: null,
    interestMillis: null,
  },
  ...{ answerTo: null, after: 0 },
}

/** The name of a session's execution. */
export const executionOf = (session: string): Effect.Effect<string> => Generate.executionId({ ...NAMELESS, session })

/**
 * How often a log that is not as it was left is read again. A cluster whose servers do not agree for a while refuses what
 * follows an entry that is not there yet, and who is the owner no more finds that in the log.
 */
const AFTER_MOVE = { schedule: Schedule.spaced("100 millis"), times: 1_800 }

/**
 * Runs a generation to its end, which its log tells. Who has taken it over begins with what the log holds; and so does its
 * owner where the log is not as he has left it, since it may have lost its tail: the same tokens are computed again.
 */
export const generate = Effect.fnUntraced(
  function* (request: GenerateRequest) {
    const { epoch } = yield* Ownership
    let fresh = epoch === 1
    let ended = 0
    const run = Effect.suspend(() => {
      const journal = fresh ? Effect.succeed(begun(request)) : recover(request, epoch)
      fresh = false
      const lost = (generation: Generation) => void (generation.finish !== null && ended++)
      return Effect.scoped(Effect.flatMap(journal, (journal) => goOn(request, { journal, epoch, ended }, lost)))
    })
    return yield* Effect.retry(run, { while: ({ _tag }) => _tag === "LogMoved", ...AFTER_MOVE }).pipe(
      Effect.catchTag("LogFailed", (error) =>
        Effect.catchTags(endAsFailed(request, epoch, error.message), {
          LogFailed: () => Effect.fail(error),
          LogMoved: () => Effect.fail(error),
        }),
      ),
    )
  },
  Effect.catchTag("OwnerChanged", () => giveUp),
)

/** An end after what the log holds, where it has not taken what came next. */
export const endAsFailed = Effect.fnUntraced(function* (request: GenerateRequest, epoch: number, error: string) {
  const log = yield* TokenLog
  const journal = yield* recover(request, epoch)
  if (journal.end !== null) return answerOf(request, journal, journal.end)
  const stats = new Tally(request.prompt.length).read(null)
  const ending = { text: "", finishReason: "failed", error, stats } as const
  const entry = { _tag: "End", epoch, at: journal.tokens.length, ...ending } as const
  yield* log.append(request.session, entry, journal.last, { hurried: true })
  return answerOf(request, journal, ending)
})

/** `lost` hears of it when the log is not as this run has left it. */
const goOn = Effect.fnUntraced(function* (request: GenerateRequest, run: Run, lost: (generation: Generation) => void) {
  const { journal } = run
  if (journal.end !== null) return answerOf(request, journal, journal.end)
  const { tokenizer } = yield* SessionPlace
  const cancellation = yield* Cancellation
  const generation = yield* restore(request, { ...run, tokenizer })
  return yield* Effect.raceFirst(placed(generation), cancellation.of(request.session)).pipe(
    Effect.matchEffect({
      onSuccess: (finish) => end(generation, finish, ""),
      onFailure: (error) => {
        if (error._tag === "LogMoved") return Effect.fail(error)
        if (error._tag === "Cancelled") return end(generation, "cancelled", "")
        return error._tag === "DeadlineOver"
          ? end(generation, "deadline", "")
          : end(generation, "failed", error.message)
      },
    }),
    Effect.tapErrorTag("LogMoved", () => Effect.sync(() => lost(generation))),
  )
})

/**
 * On a replica, as soon as there is one for it; and on another, or the same when it is whole again, if ranks were lost. What
 * was accepted is prefilled there, and the next token is the one that it would have been.
 */
const placed = (generation: Generation) => outlasting(generation, onReplica(generation))

const onReplica = (generation: Generation) =>
  Effect.catchTag(onReplicas(generation), "Cancelled", () =>
    // By who has taken the session over, or thinks so: the log will tell. A client's word does not come from the ranks.
    Effect.fail(new GroupSilent({ group: "base", reason: "a pass of the session was stopped there", blameless: true })),
  )

/** Where one drains, on another: the session moves there with its KV, which is freed when it has come. */
const onReplicas = Effect.fnUntraced(function* (generation: Generation) {
  const all = yield* Effect.scope
  let here = yield* arrive(generation, all, null)
  for (;;) {
    const finish = yield* Effect.provideService(iterate(generation, here.leaves), Models, here.models)
    if (finish !== null) return finish
    const left = here
    const held = { base: generation.base.committed, draft: generation.draft.committed }
    const source = { epoch: left.models.base.epoch() }
    const { kv, request } = generation
    here = yield* arrive(generation, all, { session: request.session, kv, ...held, source })
    yield* Scope.close(left.scope, Exit.void)
  }
}, Effect.scoped)

/** On a replica, with KV for all that is accepted, until `scope` closes. */
const arrive = Effect.fnUntraced(function* (generation: Generation, whole: Scope.Scope, moving: Reuse | null) {
  const scope = yield* Scope.fork(whole)
  const place = yield* SessionPlace
  const { models: all, coldStart, leaves } = yield* Scope.provide(place.take, scope)
  const models = generation.drafts ? all : { ...all, draft: null }
  generation.tally.placed()
  generation.coldStart ??= coldStart
  generation.adaptive = begin(generation.request, models)
  generation.draft = { committed: 0 }
  const freed = (exit: Exit.Exit<unknown, unknown>) => Effect.provideService(release(generation, exit), Models, models)
  yield* Scope.addFinalizerExit(scope, freed)
  yield* Effect.provideService(fill(generation, moving), Models, models)
  return { models, leaves, scope }
})

/** The prompt's KV, or that of all that was accepted before. */
const fill = Effect.fnUntraced(function* (generation: Generation, moving: Reuse | null) {
  const models = yield* Models
  if (generation.finish !== null && !owesPrompt(generation)) return // all but the log's last entry was written
  const last = generation.tokens.length - 1
  // What a copy has is not computed, and so cannot be told.
  generation.reuse = moving ?? (owesPrompt(generation) ? null : models.prefixes.reusable(generation.request.prompt))
  yield* fillBase(generation, models, last)
  generation.base = { committed: last, acceptedRows: [] }
  if (models.draft !== null && moving !== null && moving.draft > 0) yield* catchUp(generation, models.draft)
  if (moving !== null) generation.reuse = null // where it was, it is freed
  if (models.draft !== null && wonders(generation, models)) yield* firstLook(generation, models.draft)
  learn(generation, models, null)
  if (models.draft !== null && prepares(generation, models)) yield* catchUp(generation, models.draft)
  learn(generation, models, null)
  generation.tally.prefilled()
})

/** By the base's ranks, or, where others are there for it and there is something to fill in, by those. */
const fillBase = (generation: Generation, { base, prefill: apart }: Models["Service"], last: number) => {
  if (apart === null || generation.reuse !== null || last === 0) return prefill(generation, base, 0, last)
  return prefillApart(generation, apart, last).pipe(
    Effect.flatMap((reuse) => {
      generation.reuse = reuse
      return prefill(generation, base, 0, last)
    }),
    Effect.ensuring(
      Effect.andThen(
        apart.control({ _tag: "Abort", session: generation.kv }),
        Effect.sync(() => (generation.reuse = null)),
      ),
    ),
  )
}

/** To its end, or, with null, until it has to go on elsewhere. */
const iterate = Effect.fnUntraced(function* (generation: Generation, leaves: () => boolean) {
  while (generation.finish === null) {
    if (leaves()) return null
    yield* iteration(generation)
  }
  return generation.finish
})

const iteration = Effect.fnUntraced(function* (generation: Generation) {
  const models = yield* Models
  const shape = choose(generation, models)
  if (shape === null || models.draft === null) yield* plain(generation, models)
  else yield* speculative(generation, models, models.draft, shape)
})

const plain = Effect.fnUntraced(function* (generation: Generation, models: Models["Service"]) {
  const began = performance.now()
  const { tokens, logProbs } = yield* decode(generation, models.base, left(generation))
  learn(generation, models, { shape: null, accepted: 0, millis: performance.now() - began })
  const told = tokens.map((id, row) => ofRow(logProbs, row, id, models.tokenizer))
  yield* accepted(generation, models.tokenizer, tokens, {
    proposed: 0,
    drafted: 0,
    last: "plain",
    iterations: tokens.length,
    told,
  })
})

/** EasySpec's iteration. */
const speculative = Effect.fnUntraced(function* (
  generation: Generation,
  models: Models["Service"],
  drafting: Group,
  shape: TreeShape,
) {
  const began = performance.now()
  const tree = yield* draft(generation, drafting, shape)
  const { choices, logProbs } = yield* verify(generation, models.base, tree)
  const { path, tokens } = accept(tree, choices)
  const acceptedRows = [0, ...path.map((node) => node + 1)] // row 0 is the root's
  generation.base = { committed: generation.base.committed + generation.base.acceptedRows.length, acceptedRows }
  const millis = performance.now() - began
  learn(generation, models, { shape, accepted: path.length, millis })
  yield* trace(generation, models.tokenizer, { tree, path, tokens, millis })
  const told = acceptedRows.map((row, i) => ofRow(logProbs, row, tokens[i] ?? 0, models.tokenizer))
  yield* accepted(generation, models.tokenizer, tokens, {
    proposed: tree.tokens.length,
    drafted: path.length,
    last: "corrected",
    iterations: 1,
    told,
  })
})

interface Accepted {
  readonly proposed: number // by the draft
  readonly drafted: number // of the tokens
  readonly last: TokenOrigin // of those that were not
  readonly iterations: number
  readonly told: ReadonlyArray<ReturnType<typeof ofRow>> // of each token
}

/** Adds accepted tokens to the answer and its log. */
const accepted = Effect.fnUntraced(function* (
  generation: Generation,
  tokenizer: Tokenizer,
  tokens: ReadonlyArray<number>,
  { proposed, drafted, last, iterations, told }: Accepted,
) {
  const { request, epoch, tally } = generation
  const at = generation.tokens.length - request.prompt.length
  const taken = take(tokenizer, generation, { tokens, drafted, last, told })
  tally.iteration(taken.length, drafted, iterations)
  const { progressed } = yield* Admitted
  progressed({ tokens: taken.length, drafted: proposed, accepted: drafted, iterations })
  if (taken.length > 0)
    yield* commit(generation, { _tag: "Tokens", epoch, at, tokens: taken, ...promptTold(generation) })
}, Effect.uninterruptible) // a token is in the answer and in its log, or in neither

/** Up to the one that ends the generation. */
const take = (
  tokenizer: Tokenizer,
  generation: Generation,
  {
    tokens,
    drafted,
    last,
    told,
  }: Pick<Accepted, "drafted" | "last" | "told"> & { readonly tokens: ReadonlyArray<number> },
): ReadonlyArray<LoggedToken> => {
  const { request, transcript } = generation
  const taken: Array<LoggedToken> = []
  for (const [i, id] of tokens.entries()) {
    const scores = told[i]
    if (tokenizer.isEnd(id) && !request.ignoreEos) {
      generation.finish = "stop"
      if (scores !== undefined) generation.endToken = { id, ...scores }
      break
    }
    generation.tokens.push(id)
    taken.push({ id, text: transcript.push(id), origin: i < drafted ? "drafted" : last, ...scores })
    generation.finish = finishOf(transcript, generation.tokens.length - request.prompt.length, request.maxTokens)
    if (generation.finish !== null) break
  }
  return taken
}

/** The log's last entry: how it ended, the text that was held back, and what it took. Gives the whole answer. */
const end = Effect.fnUntraced(function* (generation: Generation, finishReason: FinishReason, error: string) {
  const { request, epoch, transcript, tally, logged, endToken } = generation
  const stats = tally.read(generation.coldStart)
  const ending = { text: transcript.end(), finishReason, error, stats, ...(endToken === null ? {} : { endToken }) }
  yield* commit(generation, { _tag: "End", epoch, at: logged.length, ...ending, ...promptTold(generation) })
  yield* written(generation)
  return answerOf(request, { tokens: logged, prompt: generation.prompt }, ending)
})

/** By which a reader knows whether it has missed any. */
const promptTold = ({ request, prompt }: Generation) =>
  request.promptLogprobs === null ? {} : { prompt: prompt.length }

const answerOf = (
  { logprobs, promptLogprobs }: GenerateRequest,
  { tokens: logged, prompt }: Pick<Journal, "tokens" | "prompt">,
  { text, finishReason, error, stats, endToken }: Omit<Answer, "tokens" | "logProbs" | "prompt">,
): Answer => ({
  ...{ finishReason, error, stats },
  text: logged.map(({ text }) => text).join("") + text,
  tokens: logged.map(({ id }) => id),
  ...(logprobs === null ? {} : { logProbs: logged.flatMap(logProbsOf) }),
  ...(endToken === undefined ? {} : { endToken }),
  ...(promptLogprobs === null ? {} : { prompt }),
})

/** Frees the session's KV on every rank, and stops what may still run for it; what has ended well may be kept for others. */
const release = Effect.fnUntraced(function* (generation: Generation, exit: Exit.Exit<unknown, unknown>) {
  const { base, draft, prefixes } = yield* Models
  const { request, kv, tokens, finish } = generation
  const tell = (_tag: "Abort" | "Release") =>
    Effect.andThen(base.control({ _tag, session: kv }), draft?.control({ _tag, session: kv }) ?? Effect.void)
  if (Exit.isFailure(exit) || finish === null) return yield* tell("Abort") // it goes on elsewhere, or nowhere
  const lengths = { base: generation.base.committed, draft: generation.draft.committed }
  yield* prefixes.leave({ session: request.session, kv, tokens, ...lengths }, tell("Release"))
})

// Generate: the workflow of one generation. The iteration is EasySpec's: calibrate and draft in the draft group, verify in
// the base group, accept, commit.
import { createHash } from "node:crypto"
import { Effect, Schedule } from "effect"
import { Workflow } from "effect/workflow"
import { giveUp } from "../durable/engine.ts"
import { Ownership } from "../durable/ownership.ts"
import { OwnJournal } from "../durable/runs.ts"
import { accept } from "../speculation/acceptance.ts"
import { type Node, ROOT, rowOf } from "../speculation/indices.ts"
import type { TreeShape } from "../speculation/tree.ts"
import { TokenLog } from "../store/tokenLog.ts"
import { Answer, type FinishReason, logProbsOf } from "../wire/infer.ts"
import { commit } from "./commit.ts"
import { decode } from "./decode.ts"
import { draftGroup } from "./draft.ts"
import { GenerateError } from "./errors.ts"
import { begun, type History } from "./history.ts"
import type { Chosen, Journal } from "./journal.ts"
import { ofRow } from "./logProbs.ts"
import { outlasting } from "./lossPolicy.ts"
import type { Proposer } from "./proposer.ts"
import { GenerateRequest } from "./request.ts"
import { recover, restore, type Start } from "./restore.ts"
import { Admitted, Cancellation, SessionPlace } from "./services.ts"
import { choose, learn, left } from "./speculationControl.ts"
import { type Generation, holding, type Unplaced } from "./state.ts"
import { Tally } from "./stats.ts"
import { onReplicas } from "./stay.ts"
import { trace } from "./trace.ts"
import { verify } from "./verify.ts"

/** Its token log is its journal: what the passes gave need not be kept besides. */
export const Generate = Workflow.make("Generate", {
  payload: GenerateRequest,
  success: Answer,
  error: GenerateError,
  idempotencyKey: ({ session }) => session,
}).annotate(OwnJournal, true)

const NAME = `${Generate._tag.length}:${Generate._tag}:`

/** The name of a session's execution: as Generate.executionId has it, which hashes in a thread of its own. */
export const executionOf = (session: string): string =>
  createHash("sha256").update(`${NAME}${session}`).digest("hex").slice(0, 32)

/**
 * How often a log that is not as it was left is read again. A cluster whose servers do not agree for a while refuses what
 * follows an entry that is not there yet, and a former owner finds that in the log.
 */
const AFTER_MOVE = { schedule: Schedule.spaced("100 millis"), times: 1_800 }

/**
 * Runs a generation to its end, which its log tells. An owner that takes it over begins with what the log holds; and so does its
 * owner where the log is not as it left it, since the log may have lost its tail: the same tokens are computed again.
 */
export const generate = Effect.fnUntraced(
  function* (request: GenerateRequest) {
    const { epoch } = yield* Ownership
    let fresh = epoch === 1
    let ended = 0
    const run = Effect.suspend(() => {
      const history = fresh ? Effect.succeed(begun(request)) : recover(request, epoch)
      fresh = false
      const lost = ({ finish }: Journal) => void (finish !== null && ended++)
      return Effect.scoped(Effect.flatMap(history, (history) => goOn(request, { history, epoch, ended }, lost)))
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
  const history = yield* recover(request, epoch)
  if (history.end !== null) return answerOf(request, history, history.end)
  const stats = new Tally(request.prompt.length).read()
  const ending = { text: "", finishReason: "failed", error, stats } as const
  const entry = { _tag: "End", epoch, at: history.tokens.length, ...ending } as const
  yield* log.append(request.session, entry, history.last, { hurried: true })
  return answerOf(request, history, ending)
})

/** `lost` hears of it when the log is not as this run has left it. */
const goOn = Effect.fnUntraced(function* (request: GenerateRequest, start: Start, lost: (journal: Journal) => void) {
  const { history } = start
  if (history.end !== null) return answerOf(request, history, history.end)
  const { tokenizer } = yield* SessionPlace
  const cancellation = yield* Cancellation
  const generation = yield* restore(request, tokenizer, start)
  // On a replica, as soon as there is one for it; and on another, or the same when it is whole again, if ranks were lost.
  // What was accepted is prefilled there, and the next token is the one that it would have been.
  const running = outlasting(generation, (may) => onReplicas(generation, may, iteration))
  return yield* Effect.raceFirst(running, cancellation.of(request.session)).pipe(
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
    Effect.tapErrorTag("LogMoved", () => Effect.sync(() => lost(generation.journal))),
  )
})

/** The next tokens: with a draft tree where one may pay, and without one elsewhere. */
const iteration = (generation: Generation) => {
  const { draft } = generation.placed.models
  const shape = choose(generation)
  return shape === null || draft === null ? plain(generation) : speculative(generation, draftGroup(draft), shape)
}

const plain = Effect.fnUntraced(function* (before: Generation) {
  const began = performance.now()
  const [{ tokens, logProbs }, decoded] = yield* decode(before, left(before))
  const generation = learn(decoded, { shape: null, accepted: 0, millis: performance.now() - began })
  const told = tokens.map((id, step) => ofRow(logProbs, step, id, generation.run.tokenizer))
  yield* settle(generation, { tokens, drafted: 0, last: "plain", told }, { proposed: 0, iterations: tokens.length })
  return generation
})

/** EasySpec's iteration: propose a tree, verify it in one pass of the base, accept a path of it, commit the tokens. */
export const speculative = Effect.fnUntraced(function* (before: Generation, proposer: Proposer, shape: TreeShape) {
  const began = performance.now()
  const [tree, proposed] = yield* proposer.propose(before, shape)
  const [{ choices, logProbs }, verified] = yield* verify(proposed, tree)
  const { path, tokens } = accept(tree, choices)
  const kept = keep(verified, path)
  const millis = performance.now() - began
  const generation = learn(kept, { shape, accepted: path.length, millis })
  yield* trace(generation, { tree, path, tokens, millis })
  const { acceptedRows } = generation.placed.base
  const told = acceptedRows.map((row, i) => ofRow(logProbs, row, tokens[i] ?? 0, generation.run.tokenizer))
  const chosen = { tokens, drafted: path.length, last: "corrected", told } as const
  yield* settle(generation, chosen, { proposed: tree.tokens.length, iterations: 1 })
  return generation
})

/** The rows of the bonus token and of the path are exact KV from the next pass on. */
const keep = (generation: Generation, path: ReadonlyArray<Node>): Generation => {
  const { committed, acceptedRows: before } = generation.placed.base
  const acceptedRows = [rowOf(ROOT), ...path.map(rowOf)]
  return holding(generation, { base: { committed: committed + before.length, acceptedRows } })
}

interface Brought {
  readonly proposed: number // tokens
  readonly iterations: number
}

/** Adds accepted tokens to the answer and its log. */
const settle = Effect.fnUntraced(function* (
  { run, journal }: Unplaced,
  chosen: Chosen,
  { proposed, iterations }: Brought,
) {
  const { drafted } = chosen
  const at = journal.tokens.length - run.request.prompt.length
  const taken = journal.take(chosen)
  run.tally.iteration(taken.length, drafted, iterations)
  const { progressed } = yield* Admitted
  progressed({ tokens: taken.length, drafted: proposed, accepted: drafted, iterations })
  if (taken.length === 0) return
  const tokens = { _tag: "Tokens", epoch: run.epoch, at, tokens: taken, ...promptTold({ run, journal }) } as const
  yield* commit({ run, journal }, tokens)
}, Effect.uninterruptible) // a token is in the answer and in its log, or in neither

/** The log's last entry: how it ended, the text that was held back, and what it took. Gives the whole answer. */
const end = Effect.fnUntraced(function* ({ run, journal }: Unplaced, finishReason: FinishReason, error: string) {
  const { logged, prompt, endToken } = journal
  const stats = run.tally.read()
  const ending = { text: journal.rest(), finishReason, error, stats, ...(endToken === null ? {} : { endToken }) }
  const told = promptTold({ run, journal })
  yield* commit({ run, journal }, { _tag: "End", epoch: run.epoch, at: logged.length, ...ending, ...told })
  yield* journal.written
  return answerOf(run.request, { tokens: logged, prompt }, ending)
})

/** By which a reader knows whether it has missed any. */
const promptTold = ({ run, journal }: Unplaced) =>
  run.request.promptLogprobs === null ? {} : { prompt: journal.prompt.length }

const answerOf = (
  { logprobs, promptLogprobs }: GenerateRequest,
  { tokens: logged, prompt }: Pick<History, "tokens" | "prompt">,
  { text, finishReason, error, stats, endToken }: Omit<Answer, "tokens" | "logProbs" | "prompt">,
): Answer => ({
  finishReason,
  error,
  stats,
  text: logged.map(({ text }) => text).join("") + text,
  tokens: logged.map(({ id }) => id),
  ...(logprobs === null ? {} : { logProbs: logged.flatMap(logProbsOf) }),
  ...(endToken === undefined ? {} : { endToken }),
  ...(promptLogprobs === null ? {} : { prompt }),
})

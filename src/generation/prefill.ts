// Prefill: exact passes over the prompt, or over whatever a group's KV lacks, in chunks. Between two chunks other sessions
// have their turn.
import { Effect } from "effect"
import type { Group } from "../group/group.ts"
import type { TokenLog } from "../store/tokenLog.ts"
import type { UnknownSession } from "../wire/errors.ts"
import { activity } from "./activity.ts"
import type { GenerateError, GroupError } from "./errors.ts"
import { owesPrompt, scored, tellPrompt } from "./logProbs.ts"
import type { Reuse } from "./prefixes.ts"
import { measure } from "./speculationControl.ts"
import { type Generation, holding } from "./state.ts"

/** Tokens of one pass. */
export const CHUNK = 128

/** While others run: their tokens come between two chunks, and no chunk keeps them waiting for long. */
const SHORT_CHUNK = 48

/** Where the prompt is told, a chunk has as many rows of the whole vocabulary. */
const chunkOf = (generation: Generation, group: Group): number =>
  owesPrompt(generation) || (generation.run.running() > 1 && group.name !== "prefill") ? SHORT_CHUNK : CHUNK

/** Leaves the first `to` tokens in the group's KV, `from` of which are there; 0 begins the session anew. */
export const prefill = Effect.fnUntraced(function* (before: Generation, group: Group, from: number, to: number) {
  let [at, generation] = from === 0 ? yield* begin(before, group, to) : ([from, before] as const)
  while (at < to || at === 0) {
    const end = Math.min(at + chunkOf(generation, group), to)
    generation = yield* chunk(generation, group, at, end)
    if (at >= to) break // a prompt of one token: the session is opened, and that token is the first bonus token
    at = end
  }
  return filled(generation, group, to)
})

const filled = (generation: Generation, { name }: Group, committed: number): Generation => {
  if (name === "base") return holding(generation, { base: { committed, acceptedRows: [] } })
  return name === "draft" ? holding(generation, { draft: { committed } }) : generation
}

/** On ranks that are there for it, whence the base's may have the KV. */
export const prefillApart = (generation: Generation, apart: Group, to: number) =>
  Effect.map(prefill(generation, apart, 0, to), (generation): Generation => {
    const { kv, request } = generation.run
    const source = { epoch: apart.epoch(), group: apart.name }
    return holding(generation, { reuse: { session: request.session, kv, base: to, draft: 0, source } })
  })

/**
 * Begins with a copy of another session's KV, or with its own from ranks elsewhere, and the first chunk after it, where there
 * is one; gives how far that went. A row's KV is the same bits wherever it was computed, so the tokens are those of a plain prefill.
 */
const begin = Effect.fnUntraced(function* (generation: Generation, group: Group, to: number) {
  const { reuse, models } = generation.placed
  if (reuse === null) return [0, generation] as const
  const moves = reuse.source !== undefined
  const most = moves ? to - 1 : to // a row is left, for which all ranks are needed: when the leader answers, all have theirs
  const reused = Math.min(most, group.name === "base" ? reuse.base : reuse.draft)
  if (reused <= 0) return [0, generation] as const
  const end = Math.min(reused + chunkOf(generation, group), to)
  const counts = group.name === "base" && !moves
  return yield* chunk(generation, group, reused, end, reuse).pipe(
    Effect.tap(() => Effect.sync(() => (counts ? generation.run.tally.reused(reused) : undefined))),
    Effect.map((after) => [end, after] as const),
    Effect.catchTag("UnknownSession", () =>
      Effect.as(moves ? Effect.void : models.prefixes.forget(reuse.session), [
        0,
        holding(generation, { reuse: null }),
      ] as const),
    ),
  )
})

/** A pass of the base, and the state before it: a rank that has lost the session, or a part of it, gets that first. */
export const onBase = <A, R>(
  generation: Generation,
  pass: (generation: Generation) => Effect.Effect<A, GroupError, R>,
) => {
  const on = (generation: Generation) => Effect.map(pass(generation), (answer) => [answer, generation] as const)
  return Effect.catchTag(on(generation), "UnknownSession", (lost) => Effect.flatMap(refill(generation, lost), on))
}

/**
 * From what a rank of the base holds on, everything that is accepted again. The other ranks drop what they have more; one that
 * has still less says so, and it goes on from there.
 */
const refill = (
  generation: Generation,
  { actual }: Pick<UnknownSession, "actual">,
): Effect.Effect<Generation, GenerateError, TokenLog> => {
  const from = Math.max(0, actual)
  return Effect.catchTag(
    prefill(generation, generation.placed.models.base, from, generation.journal.tokens.length - 1),
    "UnknownSession",
    (less) => (less.actual < from ? refill(generation, less) : Effect.fail(less)),
  )
}

const chunk = Effect.fnUntraced(function* (
  generation: Generation,
  group: Group,
  from: number,
  to: number,
  reuse?: Reuse,
) {
  const { answer, millis, bytes } = yield* rows(generation, group, from, to, reuse)
  if (group.name !== "draft" && owesPrompt(generation)) yield* tellPrompt(generation, { from, to }, answer.logProbs)
  generation.run.tally.pass("prefill", answer.cost, { millis, bytes })
  if (to === from || group.name === "prefill") return generation
  return measure(generation, group.name === "base" ? "verify" : "calibrate", to - from, { ...answer.cost, millis })
})

const rows = (generation: Generation, group: Group, from: number, to: number, reuse: Reuse | undefined) => {
  const { run, journal } = generation
  const command = {
    session: run.kv,
    committed: from,
    ...(reuse === undefined ? {} : { from: reuse.kv }),
    ...(reuse?.source === undefined ? {} : { source: { group: group.name, ...reuse.source } }),
    tokens: journal.tokens.slice(from, to),
    ...(group.name === "draft" ? {} : scored(generation, { from, to })),
    sampling: run.request.sampling,
  }
  return activity(run.name(`prefill/${group.name}`), group.prefill({ _tag: "Prefill", ...command }))
}

// Prefill: exact passes over the prompt, or over whatever a group's KV lacks, in chunks. Between two chunks other sessions
// have their turn.
import { Effect } from "effect"
import type { Group } from "../group/group.ts"
import type { TokenLog } from "../store/tokenLog.ts"
import type { UnknownSession } from "../wire/errors.ts"
import { activity } from "./activity.ts"
import type { GenerateError } from "./errors.ts"
import { owesPrompt, scored, tellPrompt } from "./logProbs.ts"
import type { Reuse } from "./prefixes.ts"
import { Models } from "./services.ts"
import { measure } from "./speculationControl.ts"
import type { Generation } from "./state.ts"

/** Tokens of one pass. */
export const CHUNK = 128

/** While others run: their tokens come between two chunks, and no chunk keeps them waiting for long. */
const SHORT_CHUNK = 48

/** Where the prompt is told, a chunk has as many rows of the whole vocabulary. */
const chunkOf = (generation: Generation, group: Group): number =>
  owesPrompt(generation) || (generation.running() > 1 && group.name !== "prefill") ? SHORT_CHUNK : CHUNK

/** Leaves the first `to` tokens in the group's KV, `from` of which are there; 0 begins the session anew. */
export const prefill = Effect.fnUntraced(function* (generation: Generation, group: Group, from: number, to: number) {
  const copied = from === 0 ? yield* begin(generation, group, to) : from
  for (let at = copied; at < to || at === 0; ) {
    const end = Math.min(at + chunkOf(generation, group), to)
    yield* chunk(generation, group, at, end)
    if (at >= to) break // a prompt of one token: the session is opened, and that token is the first bonus token
    at = end
  }
})

/** On ranks that are there for it, whence the base's have the KV. */
export const prefillApart = (generation: Generation, apart: Group, to: number) =>
  Effect.map(prefill(generation, apart, 0, to), (): Reuse => {
    const { kv, request } = generation
    return { session: request.session, kv, base: to, draft: 0, source: { epoch: apart.epoch(), group: apart.name } }
  })

/**
 * Begins with a copy of another session's KV, or with its own from ranks elsewhere, and the first chunk after it, where there
 * is one; gives how far that went. A row's KV is the same bits wherever it was computed, so the tokens are those of a plain prefill.
 */
const begin = Effect.fnUntraced(function* (generation: Generation, group: Group, to: number) {
  const { reuse } = generation
  if (reuse === null) return 0
  const moves = reuse.source !== undefined
  const most = moves ? to - 1 : to // a row is left, for which all ranks are needed: when the leader answers, all have theirs
  const reused = Math.min(most, group.name === "base" ? reuse.base : reuse.draft)
  if (reused <= 0) return 0
  const end = Math.min(reused + chunkOf(generation, group), to)
  const counts = group.name === "base" && !moves
  return yield* chunk(generation, group, reused, end, reuse).pipe(
    Effect.tap(() => Effect.sync(() => (counts ? generation.tally.reused(reused) : undefined))),
    Effect.as(end),
    Effect.catchTag("UnknownSession", () => {
      generation.reuse = null
      const forgotten = moves ? Effect.void : Effect.flatMap(Models, ({ prefixes }) => prefixes.forget(reuse.session))
      return Effect.as(forgotten, 0)
    }),
  )
})

/**
 * A rank of the base group has lost the session, or a part of it: from what it holds on, everything that is accepted again. The
 * other ranks drop what they have more; one that has still less says so, and it goes on from there.
 */
export const refill = (
  generation: Generation,
  group: Group,
  { actual }: Pick<UnknownSession, "actual">,
): Effect.Effect<void, GenerateError, Models | TokenLog> => {
  const last = generation.tokens.length - 1
  const from = Math.max(0, actual)
  return prefill(generation, group, from, last).pipe(
    Effect.catchTag("UnknownSession", (less) =>
      less.actual < from ? refill(generation, group, less) : Effect.fail(less),
    ),
    Effect.tap(() => Effect.sync(() => (generation.base = { committed: last, acceptedRows: [] }))),
    Effect.asVoid,
  )
}

const chunk = Effect.fnUntraced(function* (
  generation: Generation,
  group: Group,
  from: number,
  to: number,
  reuse?: Reuse,
) {
  const { answer, millis, bytes } = yield* pass(generation, group, from, to, reuse)
  if (group.name !== "draft" && owesPrompt(generation)) {
    const { tokenizer } = yield* Models
    yield* tellPrompt(generation, { from, to }, answer.logProbs, tokenizer)
  }
  generation.tally.pass("prefill", answer.cost, { millis, bytes })
  if (to > from && group.name !== "prefill")
    measure(generation, group.name === "base" ? "verify" : "calibrate", to - from, { ...answer.cost, millis })
})

const pass = (generation: Generation, group: Group, from: number, to: number, reuse: Reuse | undefined) =>
  activity(
    `prefill/${group.name}/${generation.passes++}`,
    group.prefill({
      _tag: "Prefill",
      session: generation.kv,
      committed: from,
      ...(reuse === undefined ? {} : { from: reuse.kv }),
      ...(reuse?.source === undefined ? {} : { source: { group: group.name, ...reuse.source } }),
      tokens: generation.tokens.slice(from, to),
      ...(group.name === "draft" ? {} : scored(generation, { from, to })),
      sampling: generation.request.sampling,
    }),
  )

// Prefill: exact passes over the prompt, or over whatever a group's KV lacks, in chunks. Between two chunks other sessions
// have their turn.
import { Effect, Schema } from "effect"
import { Activity } from "effect/workflow"
import type { Group } from "../fabric/group.ts"
import { Prefilled } from "../wire/pass.ts"
import { GroupError } from "./errors.ts"
import type { Generation } from "./generation.ts"

/** Tokens of one pass. */
export const CHUNK = 128

const Answered = Schema.Struct({ answer: Prefilled, millis: Schema.Finite, bytes: Schema.Finite })

/** Leaves the first `to` tokens in the group's KV, `from` of which are there; 0 begins the session anew. */
export const prefill = Effect.fnUntraced(function* (generation: Generation, group: Group, from: number, to: number) {
  for (let at = from; at < to || at === 0; at += CHUNK) {
    const { answer, millis, bytes } = yield* chunk(generation, group, at, Math.min(at + CHUNK, to))
    generation.tally.pass("prefill", answer.cost, { millis, bytes })
    generation.measured[group.name === "base" ? "verify" : "calibrate"].push({ rows: Math.min(CHUNK, to - at), millis })
    if (at >= to) break // a prompt of one token: the session is opened, and that token is the first bonus token
  }
})

/** The base group has lost the session, or a part of it: everything that is accepted again, from the start. */
export const refill = Effect.fnUntraced(function* (generation: Generation, group: Group) {
  const last = generation.tokens.length - 1
  yield* prefill(generation, group, 0, last)
  generation.base = { committed: last, keep: [] }
})

const chunk = (generation: Generation, group: Group, from: number, to: number) =>
  Activity.make({
    name: `prefill/${group.name}/${generation.passes++}`,
    success: Answered,
    error: GroupError,
    execute: group.prefill({
      _tag: "Prefill",
      session: generation.request.session,
      committed: from,
      tokens: generation.tokens.slice(from, to),
      sampling: generation.request.sampling,
    }),
  })

// Decoding without a draft. Several steps are one command, so that what NATS adds to a token is a fraction of a message;
// but never so many that a user would see the tokens come in bursts: what takes a tenth of a second seems to be at once.
import { Effect, Schema } from "effect"
import { Activity } from "effect/workflow"
import type { Group } from "../fabric/group.ts"
import { Decoded } from "../wire/pass.ts"
import { measure } from "./control.ts"
import { GroupError } from "./errors.ts"
import type { Generation } from "./generation.ts"
import { asked } from "./logProbs.ts"
import { refill } from "./prefill.ts"

const BURST_MILLIS = 100
const BURST_STEPS = 8

const Answered = Schema.Struct({ answer: Decoded, millis: Schema.Finite, bytes: Schema.Finite })

/** The base's next tokens: at least one, and at most `most`. */
export const decode = Effect.fnUntraced(function* (generation: Generation, group: Group, most: number) {
  const affordable = generation.stepMillis === null ? 1 : Math.floor(BURST_MILLIS / generation.stepMillis)
  const steps = Math.max(1, Math.min(affordable, BURST_STEPS, most))
  const decoded = yield* Effect.catchTag(burst(generation, group, steps), "UnknownSession", (lost) =>
    Effect.andThen(
      refill(generation, group, lost),
      Effect.suspend(() => burst(generation, group, steps)),
    ),
  )
  const { answer, millis, bytes } = decoded
  const { length } = answer.tokens
  generation.base = { committed: generation.tokens.length - 1 + length, keep: [] }
  generation.stepMillis = millis / length
  measure(generation, "verify", 1, { ...answer.cost, millis }, length)
  generation.tally.pass("decode", answer.cost, { millis, bytes }, length)
  return answer
})

const burst = (generation: Generation, group: Group, steps: number) => {
  const { request, kv, tokens, base } = generation
  return Activity.make({
    name: `decode/${generation.passes++}`,
    success: Answered,
    error: GroupError,
    execute: group.decode({
      _tag: "Decode",
      session: kv,
      committed: base.committed + base.keep.length,
      keep: base.keep,
      token: tokens.at(-1) ?? 0,
      steps,
      ...asked(request),
    }),
  })
}

// Decoding without a draft. Several steps are one command, so that what NATS adds to a token is a fraction of a message;
// but not so many that a user would see the tokens come in bursts: what takes a tenth of a second seems to be at once.
// Where many share ranks whose steps are small, that would leave a step a command, and all would wait for the supervisor
// and the log in place of the ranks. There a burst may be longer.
import { Effect } from "effect"
import type { Group } from "../group/group.ts"
import { activity } from "./activity.ts"
import { asked } from "./logProbs.ts"
import { refill } from "./prefill.ts"
import { measure, millisOf } from "./speculationControl.ts"
import type { Generation } from "./state.ts"

const BURST_MILLIS = 100
const BURST_STEPS = 8
const LONGEST_MILLIS = 500

/** With so much computing a command, what a command costs beside the ranks is the lesser part. */
const WORTH_MILLIS = 4

/** A step of one session, lately. */
export interface Step {
  readonly millis: number // from step to step, as far as the ranks decide it
  readonly computeMillis: number // the session's share
}

/** How many steps are one command. */
export const stepsAfter = (step: Step | null): number => {
  if (step === null) return 1
  const smooth = Math.floor(BURST_MILLIS / step.millis)
  const worth = Math.min(Math.ceil(WORTH_MILLIS / step.computeMillis), Math.floor(LONGEST_MILLIS / step.millis))
  return Math.max(1, Math.min(Math.max(smooth, worth), BURST_STEPS))
}

/** The base's next tokens: at least one, and at most `most`. */
export const decode = Effect.fnUntraced(function* (generation: Generation, group: Group, most: number) {
  const steps = Math.min(stepsAfter(generation.step), most)
  const decoded = yield* Effect.catchTag(burst(generation, group, steps), "UnknownSession", (lost) =>
    Effect.andThen(
      refill(generation, group, lost),
      Effect.suspend(() => burst(generation, group, steps)),
    ),
  )
  const { answer, millis, bytes } = decoded
  const { length } = answer.tokens
  generation.base = { committed: generation.tokens.length - 1 + length, acceptedRows: [] }
  const cost = { ...answer.cost, millis }
  generation.step = { millis: millisOf(generation, cost) / length, computeMillis: cost.computeMillis / length }
  measure(generation, "verify", 1, cost, length)
  generation.tally.pass("decode", answer.cost, { millis, bytes }, length)
  return answer
})

const burst = (generation: Generation, group: Group, steps: number) => {
  const { request, kv, tokens, base } = generation
  return activity(
    `decode/${generation.passes++}`,
    group.decode({
      _tag: "Decode",
      session: kv,
      committed: base.committed + base.acceptedRows.length,
      acceptedRows: base.acceptedRows,
      token: tokens.at(-1) ?? 0,
      steps,
      ...asked(request),
    }),
  )
}

// Decoding without a draft. Several steps are one command, so that what NATS adds to a token is a fraction of a message;
// but not so many that a user would see the tokens come in bursts: what takes a tenth of a second seems to be at once.
// Where many sessions share ranks whose steps are small, that would leave a step a command, and all would wait for the
// supervisor and the log in place of the ranks. There a burst may be longer.
import { Effect } from "effect"
import { activity } from "./activity.ts"
import { asked } from "./logProbs.ts"
import { onBase } from "./prefill.ts"
import { measure, millisOf, type Step } from "./speculationControl.ts"
import { type Generation, holding } from "./state.ts"

const BURST_MILLIS = 100
const LONGEST_MILLIS = 500

/** Most steps of a burst within the tenth of a second, and of a longer one. */
const SMOOTH_STEPS = 32
const LONG_STEPS = 8

/** With this much computing a command, what a command costs beside the ranks is the lesser part. */
const WORTH_MILLIS = 4

/** How many steps are one command. */
export const stepsAfter = (step: Step | null): number => {
  if (step === null) return 1
  const smooth = Math.min(Math.floor(BURST_MILLIS / step.millis), SMOOTH_STEPS)
  const worth = Math.min(Math.ceil(WORTH_MILLIS / step.computeMillis), Math.floor(LONGEST_MILLIS / step.millis))
  return Math.max(1, smooth, Math.min(worth, LONG_STEPS))
}

/** The base's next tokens: at least one, and at most `most`. */
export const decode = Effect.fnUntraced(function* (before: Generation, most: number) {
  const steps = Math.min(stepsAfter(before.control.step), most)
  const [{ answer, millis, bytes }, generation] = yield* onBase(before, (generation) => burst(generation, steps))
  const { run, journal } = generation
  const { length } = answer.tokens
  const cost = { ...answer.cost, millis }
  run.tally.pass("decode", answer.cost, { millis, bytes }, length)
  const held = holding(generation, { base: { committed: journal.tokens.length - 1 + length, acceptedRows: [] } })
  const measured = measure(held, "verify", 1, cost, length)
  const step = { millis: millisOf(run, cost) / length, computeMillis: cost.computeMillis / length }
  return [answer, { ...measured, control: { ...measured.control, step } }] as const
})

const burst = ({ run, journal, placed }: Generation, steps: number) => {
  const { base, models } = placed
  const command = {
    session: run.kv,
    committed: base.committed + base.acceptedRows.length,
    acceptedRows: base.acceptedRows,
    token: journal.tokens.at(-1) ?? 0,
    steps,
    ...asked(run.request),
  }
  return activity(run.name("decode"), models.base.decode({ _tag: "Decode", ...command }))
}

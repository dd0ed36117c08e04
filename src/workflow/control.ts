// Which tree the next iteration drafts, if any: the one that the request forces, or what the adaptive control makes of all
// that has been measured. What one session learns of the deployment, the others use.
import {
  type Adaptive,
  choose as chooseTree,
  type Iteration,
  initial,
  measured,
  observe,
  type Passes,
  primes,
} from "../speculation/adaptive.ts"
import type { TreeShape } from "../speculation/tree.ts"
import type { GenerateRequest, Generation, Models } from "./generation.ts"

/** The largest tree that the adaptive control drafts. */
const LIMITS: TreeShape = { depth: 8, width: 8, nodes: 32 }

/** What ran since the last observation. */
export interface Measured extends Passes {
  readonly verify: Array<Passes["verify"][number]>
  readonly calibrate: Array<Passes["calibrate"][number]>
  readonly steps: Array<Passes["steps"][number]>
}

export const nothing = (): Measured => ({ verify: [], calibrate: [], steps: [] })

export const begin = ({ speculation }: GenerateRequest, { draft, learned }: Models["Service"]): Adaptive | null =>
  speculation === "adaptive" && draft !== null ? initial(LIMITS, learned.current) : null

/** Whether the draft's KV is filled with the prompt before anything is drafted. */
export const prepares = ({ adaptive, tokens }: Generation): boolean =>
  adaptive !== null && primes(adaptive, tokens.length)

/** Tokens that may still come. */
export const left = ({ request, tokens }: Generation): number =>
  request.maxTokens - (tokens.length - request.prompt.length)

export const choose = (generation: Generation, { draft, learned }: Models["Service"]): TreeShape | null => {
  const { request, tokens, adaptive } = generation
  const { speculation } = request
  const most = left(generation)
  if (draft === null || most === 1 || speculation === "none") return null // the bonus token alone is enough
  if (adaptive !== null) {
    return chooseTree(
      { ...adaptive, known: learned.current ?? adaptive.known },
      tokens.length - generation.draft.committed,
      most,
    )
  }
  return speculation === "adaptive" ? null : { ...speculation, depth: Math.min(speculation.depth, most - 1) }
}

type Outcome = Pick<Iteration, "shape" | "accepted" | "millis">

/** After an iteration, or, without one, after passes that are none. */
export const learn = (generation: Generation, { learned }: Models["Service"], iteration: Outcome | null): void => {
  const passes = generation.measured
  generation.measured = nothing()
  if (generation.adaptive === null) return
  const state = { ...generation.adaptive, known: learned.current ?? generation.adaptive.known }
  const next =
    iteration === null ? measured(state, passes) : stepsOf(passes, iteration).reduce<Adaptive>(observe, state)
  generation.adaptive = next
  learned.current = next.known
}

/** Decoding steps of one command are an iteration each. */
const stepsOf = (passes: Passes, { shape, accepted, millis }: Outcome): ReadonlyArray<Iteration> => {
  if (shape !== null) return [{ ...passes, shape, accepted, millis }]
  const { verify } = passes
  return verify.map((step) => ({ ...nothing(), verify: [step], shape, accepted, millis: millis / verify.length }))
}

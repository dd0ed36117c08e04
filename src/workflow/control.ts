// Which tree the next iteration drafts, if any: the one that the request forces, or what the adaptive control makes of all
// that has been measured. What one session learns of the deployment, the others use.
import {
  type Adaptive,
  choose as chooseTree,
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

export const choose = (generation: Generation, { draft, learned }: Models["Service"]): TreeShape | null => {
  const { request, tokens, adaptive } = generation
  const { speculation, maxTokens, prompt } = request
  const left = maxTokens - (tokens.length - prompt.length)
  if (draft === null || left === 1 || speculation === "none") return null // the bonus token alone is enough
  if (adaptive !== null) {
    return chooseTree(
      { ...adaptive, known: learned.current ?? adaptive.known },
      tokens.length - generation.draft.committed,
      left,
    )
  }
  return speculation === "adaptive" ? null : { ...speculation, depth: Math.min(speculation.depth, left - 1) }
}

/** After an iteration, or, without one, after passes that are none. */
export const learn = (
  generation: Generation,
  { learned }: Models["Service"],
  iteration: { readonly shape: TreeShape | null; readonly accepted: number; readonly millis: number } | null,
): void => {
  const passes = generation.measured
  generation.measured = nothing()
  if (generation.adaptive === null) return
  const state = { ...generation.adaptive, known: learned.current ?? generation.adaptive.known }
  generation.adaptive = iteration === null ? measured(state, passes) : observe(state, { ...passes, ...iteration })
  learned.current = generation.adaptive.known
}

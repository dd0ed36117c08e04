// Which tree the next iteration drafts, if any: the one that the request forces, or what the adaptive control makes of all
// that has been measured. What one session learns of the deployment, the others use.
import {
  type Adaptive,
  choose as chooseTree,
  elsewhere,
  type Iteration,
  initial,
  isUnheard,
  type Known,
  measured,
  observe,
  type Passes,
  primes,
} from "../speculation/adaptive.ts"
import type { TreeShape } from "../speculation/tree.ts"
import type { PassCost } from "../wire/pass.ts"
import type { GenerateRequest } from "./request.ts"
import type { Models } from "./services.ts"
import type { Generation } from "./state.ts"

/** The largest tree that the adaptive control drafts. */
const LIMITS: TreeShape = { depth: 8, width: 8, nodes: 32 }

/** What ran since the last observation. */
export interface Measured extends Passes {
  readonly verify: Array<Passes["verify"][number]>
  readonly calibrate: Array<Passes["calibrate"][number]>
  readonly steps: Array<Passes["steps"][number]>
}

export const nothing = (): Measured => ({ verify: [], calibrate: [], steps: [] })

type Learned = Models["Service"]["learned"]

/** The parts of a generation, and of what it runs on, that this looks at. */
type Controlled = Pick<Generation, "request" | "tokens" | "adaptive" | "draft" | "running" | "measured">
interface Drafting {
  readonly draft: object | null
  readonly learned: Learned
}

/** Beside what is learned with a session alone: the same for two sessions and more, four and more, ... */
const crowded = new WeakMap<Learned, Map<number, Learned>>()

/** A pass costs something else when others run with it, so what is learned is kept for each doubling of the sessions. */
const learnedWith = (sessions: number, learned: Learned): Learned => {
  const level = levelOf(sessions)
  if (level === 0) return learned
  const levels = crowded.get(learned) ?? new Map<number, Learned>()
  crowded.set(learned, levels)
  const known = levels.get(level) ?? { current: elsewhere(below(level, learned, levels)) }
  levels.set(level, known)
  return known
}

/** What is known of the next smaller crowd, or of a session alone. */
const below = (level: number, learned: Learned, levels: ReadonlyMap<number, Learned>): Known | undefined => {
  for (let smaller = level - 1; smaller > 0; smaller--) {
    const known = levels.get(smaller)?.current
    if (known !== undefined) return known
  }
  return learned.current
}

const levelOf = (sessions: number): number => Math.floor(Math.log2(Math.max(1, sessions)))

/**
 * The time that the ranks take for a pass. For a session alone, the pass's own. With others the device is never idle, and what
 * counts is how much of it the pass takes away from all: its share of the computing, in the time that a session gets its
 * own share.
 */
export const millisOf = (
  { running }: Pick<Controlled, "running">,
  { millis, computeMillis }: Pick<PassCost, "millis" | "computeMillis">,
) => (levelOf(running()) === 0 ? millis : computeMillis * running())

/**
 * What a pass is thought to cost: that, or what its session waited for it where that is longer, as with small models, whose
 * messages are more work than their passes. So with others a tree is drafted only where it saves both.
 */
const costOf = (generation: Pick<Controlled, "running">, cost: Pick<PassCost, "millis" | "computeMillis">) =>
  Math.max(cost.millis, millisOf(generation, cost))

export const measure = (
  generation: Controlled,
  kind: keyof Passes,
  rows: number,
  cost: Pick<PassCost, "millis" | "computeMillis">,
  times = 1, // so many passes of one command
): void => {
  const millis = costOf(generation, cost) / times
  for (let i = 0; i < times; i++) generation.measured[kind].push({ rows, millis })
}

export const begin = (
  { speculation }: Pick<GenerateRequest, "speculation">,
  { draft, learned }: Drafting,
): Adaptive | null => (speculation === "adaptive" && draft !== null ? initial(LIMITS, learned.current) : null)

/** Whether what the draft costs is to be found out first. */
export const wonders = ({ adaptive, running }: Controlled, { learned }: Drafting): boolean =>
  adaptive !== null && levelOf(running()) === 0 && isUnheard(learned.current ?? adaptive.known)

/** Whether the draft's KV is filled with the prompt before anything is drafted. */
export const prepares = ({ adaptive, tokens, running }: Controlled, { learned }: Drafting): boolean => {
  if (adaptive === null) return false
  const known = learnedWith(running(), learned).current ?? adaptive.known
  const curious = levelOf(running()) === 0 // with others, whoever probes pays for it himself
  return (curious || known.costs.steps.fit.length > 0) && primes({ ...adaptive, known }, tokens.length)
}

/** Tokens that may still come. */
export const left = ({ request, tokens }: Pick<Generation, "request" | "tokens">): number =>
  request.maxTokens - (tokens.length - request.prompt.length)

export const choose = (generation: Controlled, { draft, learned }: Drafting): TreeShape | null => {
  const { request, tokens, adaptive } = generation
  const { speculation } = request
  const most = left(generation)
  if (draft === null || most === 1 || speculation === "none") return null // the bonus token alone is enough
  if (adaptive !== null) {
    const ours = learnedWith(generation.running(), learned)
    const known = ours.current ?? adaptive.known
    const shape = chooseTree({ ...adaptive, known }, tokens.length - generation.draft.committed, most)
    return levelOf(generation.running()) === 0 ? shape : oneForAll(ours, known, shape)
  }
  return speculation === "adaptive" ? null : { ...speculation, depth: Math.min(speculation.depth, most - 1) }
}

const LAST_INTERVAL = 1024

/** What is not known among many, or is due to be tried again, one session tries: the others do not until there was time for an outcome. */
const oneForAll = (ours: Learned, known: Known, shape: TreeShape | null): TreeShape | null => {
  const due = known.quiet >= known.interval
  const tested = known.costs.calibrate.fit.length > 0
  if (shape === null || (!due && !tested)) return null
  if (due) ours.current = { ...known, quiet: 0, interval: Math.min(2 * known.interval, LAST_INTERVAL) }
  return shape
}

type IterationOutcome = Pick<Iteration, "shape" | "accepted" | "millis">

/** After an iteration, or, without one, after passes that are none. */
export const learn = (generation: Controlled, { learned }: Drafting, iteration: IterationOutcome | null): void => {
  const passes = generation.measured
  generation.measured = nothing()
  if (generation.adaptive === null) return
  const ours = learnedWith(generation.running(), learned)
  const state = { ...generation.adaptive, known: ours.current ?? generation.adaptive.known }
  const next =
    iteration === null
      ? measured(state, passes)
      : stepsOf(passes, among(generation, passes, iteration)).reduce<Adaptive>(observe, state)
  generation.adaptive = next
  ours.current = next.known
}

/** With others the passes may cost more than their time. */
const among = (
  { running }: Controlled,
  { verify, calibrate, steps }: Passes,
  outcome: IterationOutcome,
): IterationOutcome => {
  if (levelOf(running()) === 0) return outcome
  const cost = [...verify, ...calibrate, ...steps].reduce((sum, { millis }) => sum + millis, 0)
  return { ...outcome, millis: Math.max(outcome.millis, cost) }
}

/** Decoding steps of one command are an iteration each. */
const stepsOf = (passes: Passes, { shape, accepted, millis }: IterationOutcome): ReadonlyArray<Iteration> => {
  if (shape !== null) return [{ ...passes, shape, accepted, millis }]
  const { verify } = passes
  return verify.map((step) => ({ ...nothing(), verify: [step], shape, accepted, millis: millis / verify.length }))
}

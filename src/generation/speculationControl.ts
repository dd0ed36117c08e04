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

/** The largest tree that the adaptive control drafts. */
const LIMITS: TreeShape = { depth: 8, width: 8, nodes: 32 }

/** What the next iteration depends on. */
export interface Control {
  readonly adaptive: Adaptive | null // null where a setting is forced
  readonly measured: Passes // what ran since the last observation
  readonly step: Step | null // of decoding, lately
}

/** A step of one session. */
export interface Step {
  readonly millis: number // from step to step, as far as the ranks decide it
  readonly computeMillis: number // the session's share
}

const NOTHING: Passes = { verify: [], calibrate: [], steps: [] }

type Learned = Models["Service"]["learned"]

/** The parts of a generation that this looks at. */
export interface Controlled {
  readonly run: {
    readonly request: Pick<GenerateRequest, "prompt" | "maxTokens" | "speculation">
    readonly running: () => number // sessions, this one among them
  }
  readonly journal: { readonly tokens: ReadonlyArray<number> }
  readonly placed: {
    readonly models: { readonly draft: object | null; readonly learned: Learned }
    readonly draft: { readonly committed: number }
  }
  readonly control: Control
}

type Running = Pick<Controlled["run"], "running">

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
  { running }: Running,
  { millis, computeMillis }: Pick<PassCost, "millis" | "computeMillis">,
) => (levelOf(running()) === 0 ? millis : computeMillis * running())

/**
 * What a pass is thought to cost: that, or what its session waited for it where that is longer, as with small models, whose
 * messages are more work than their passes. So with others a tree is drafted only where it saves both.
 */
const costOf = (run: Running, cost: Pick<PassCost, "millis" | "computeMillis">) =>
  Math.max(cost.millis, millisOf(run, cost))

/** The state after this many rows of a kind. */
export const measure = <G extends Controlled>(
  generation: G,
  kind: keyof Passes,
  rows: number,
  cost: Pick<PassCost, "millis" | "computeMillis">,
  times = 1, // passes of one command
): G => {
  const { run, control } = generation
  const millis = costOf(run, cost) / times
  const ran = Array.from({ length: times }, () => ({ rows, millis }))
  const measured = { ...control.measured, [kind]: [...control.measured[kind], ...ran] }
  return { ...generation, control: { ...control, measured } }
}

/** Of a generation that has come to its ranks. */
export const begin = (
  { speculation }: Pick<GenerateRequest, "speculation">,
  { draft, learned }: Controlled["placed"]["models"],
): Control => ({
  adaptive: speculation === "adaptive" && draft !== null ? initial(LIMITS, learned.current) : null,
  measured: NOTHING,
  step: null,
})

/** Whether what the draft costs is to be found out first. */
export const wonders = ({ run, placed, control: { adaptive } }: Controlled): boolean =>
  adaptive !== null && levelOf(run.running()) === 0 && isUnheard(placed.models.learned.current ?? adaptive.known)

/** Whether the draft's KV is filled with the prompt before anything is drafted. */
export const prepares = ({ run, journal, placed, control: { adaptive } }: Controlled): boolean => {
  if (adaptive === null) return false
  const known = learnedWith(run.running(), placed.models.learned).current ?? adaptive.known
  const curious = levelOf(run.running()) === 0 // beside others, a session pays for its own probes
  return (curious || known.costs.steps.fit.length > 0) && primes({ ...adaptive, known }, journal.tokens.length)
}

/** Tokens that may still come. */
export const left = ({ run: { request }, journal }: Pick<Controlled, "run" | "journal">): number =>
  request.maxTokens - (journal.tokens.length - request.prompt.length)

export const choose = (generation: Controlled): TreeShape | null => {
  const { run, journal, placed, control } = generation
  const { models, draft } = placed
  const { speculation } = run.request
  const most = left(generation)
  if (models.draft === null || most === 1 || speculation === "none") return null // the bonus token alone is enough
  if (control.adaptive !== null) {
    const ours = learnedWith(run.running(), models.learned)
    const known = ours.current ?? control.adaptive.known
    const shape = chooseTree({ ...control.adaptive, known }, journal.tokens.length - draft.committed, most)
    return levelOf(run.running()) === 0 ? shape : oneForAll(ours, known, shape)
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
export const learn = <G extends Controlled>(generation: G, iteration: IterationOutcome | null): G => {
  const { run, placed, control } = generation
  const passes = control.measured
  if (control.adaptive === null) return { ...generation, control: { ...control, measured: NOTHING } }
  const ours = learnedWith(run.running(), placed.models.learned)
  const state = { ...control.adaptive, known: ours.current ?? control.adaptive.known }
  const adaptive =
    iteration === null
      ? measured(state, passes)
      : stepsOf(passes, among(run, passes, iteration)).reduce<Adaptive>(observe, state)
  ours.current = adaptive.known
  return { ...generation, control: { ...control, adaptive, measured: NOTHING } }
}

/** With others the passes may cost more than their time. */
const among = (
  { running }: Running,
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
  return verify.map((step) => ({ ...NOTHING, verify: [step], shape, accepted, millis: millis / verify.length }))
}

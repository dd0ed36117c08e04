// The cost model: what a pass of a group takes, and what drafting and verifying take together against plain decoding.
import { type Blocks, described } from "./blocks.ts"
import { devicesOf, type Hardware } from "./hardware.ts"
import { bytesOf, kvBytesPerToken, type ModelShape, type Pair } from "./models.ts"
import { type Outcome, simulate } from "./simulate.ts"
import { type Division, programOf, ranksOf } from "./strategies.ts"

export interface PassShape {
  readonly rows: number
  readonly context: number
  readonly exact?: boolean
}

/** One pass of a model. Devices of a group are alike: the first one's blocks are priced. */
export const passOf = (
  division: Division,
  model: ModelShape,
  hardware: Hardware,
  { rows, context, exact = false }: PassShape,
  blocks: Blocks = blocksOf(hardware, model),
): Outcome => simulate(programOf(division, { model, hardware, blocks, rows, context, exact }), hardware)

const blocksOf = (hardware: Hardware, model: ModelShape): Blocks => {
  const [device] = devicesOf(hardware)
  if (device === undefined) throw new RangeError(`${hardware.name} has no device`)
  return described(device, model)
}

/** Whether a rank's share of the weights, and of the KV of one session, goes into its memory. */
export const fits = (division: Division, model: ModelShape, hardware: Hardware, context: number): boolean => {
  const ranks = ranksOf(division)
  const devices = devicesOf(hardware)
  const whole = division.strategy === "layer" && !division.split // every rank has the MLPs of all layers
  const weights = bytesOf(model) / (whole ? 1 : ranks)
  const needed = weights + (kvBytesPerToken(model) * context) / ranks
  return ranks <= devices.length && devices.slice(0, ranks).every(({ memoryBytes }) => needed <= 0.9 * memoryBytes)
}

/** Seconds of a pass. */
export type Price = (division: Division, model: ModelShape, shape: PassShape) => number

/** Prices on one hardware; a pass that was asked for is not simulated again. */
export const pricesOn = (hardware: Hardware, blocks?: (model: ModelShape) => Blocks): Price => {
  const known = new Map<string, number>()
  return (division, model, shape) => {
    const key = JSON.stringify([division, model.name, shape])
    const seconds = known.get(key) ?? passOf(division, model, hardware, shape, blocks?.(model)).seconds
    known.set(key, seconds)
    return seconds
  }
}

/** The quickest of some divisions. */
export const quickest = (
  price: Price,
  divisions: ReadonlyArray<Division>,
  model: ModelShape,
  shape: PassShape,
): { readonly division: Division; readonly seconds: number } | undefined =>
  divisions
    .map((division) => ({ division, seconds: price(division, model, shape) }))
    .sort((a, b) => a.seconds - b.seconds)[0]

/** A chain of drafted tokens, and how many of them are accepted on average. */
export interface Chain {
  readonly depth: number
  readonly accepted: number
}

export interface Iteration {
  readonly calibrateSeconds: number
  readonly draftSeconds: number // of all steps
  readonly verifySeconds: number
  readonly tokens: number // accepted, and the bonus token
  readonly plainSeconds: number // of as many tokens without a draft
  readonly speedUp: number
}

/**
 * One iteration. The calibration pass runs what was accepted and gives the first drafted token, each further one is a
 * fuzzy pass, and the base verifies all of them and the bonus token at once.
 */
export const iterationOf = (
  price: Price,
  { base, draft }: Pair,
  how: { readonly base: Division; readonly draft: Division },
  { depth, accepted }: Chain,
  context: number,
): Iteration => {
  const tokens = accepted + 1
  const calibrateSeconds = price(how.draft, draft, { rows: Math.round(tokens), context, exact: true })
  const draftSeconds = (depth - 1) * price(how.draft, draft, { rows: 1, context })
  const verifySeconds = price(how.base, base, { rows: depth + 1, context })
  const plainSeconds = tokens * price(how.base, base, { rows: 1, context })
  const speedUp = plainSeconds / (calibrateSeconds + draftSeconds + verifySeconds)
  return { calibrateSeconds, draftSeconds, verifySeconds, tokens, plainSeconds, speedUp }
}

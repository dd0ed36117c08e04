// The adaptive control: which tree to draft next, or none. It changes speed alone, never a token.
//
// With a tree of depth D and width w an iteration is expected to take and to bring
//
//   millis(D, w, n) = calibrate(E) + (D - 1) step(w) + verify(1 + n) + overhead
//   E(D, w)         = 1 + sum over d = 1..D of a_w(1) a_w(2) ... a_w(d)
//
// a_w(d) is the chance that the base's choice at depth d is in the tree, given that the one before was. `calibrate`,
// `step` and `verify` are the curves of costs.ts; in the steady state, calibration runs what one iteration accepts. A
// draft that was not asked for a while lacks `pending` tokens; what their calibration costs beyond that is spread over
// the tokens that are still to come: as many as have come, an old rule for lives of unknown length. The tree with the
// fewest milliseconds a token is drafted if that is less than plain decoding's verify(1) + overhead.
//
// It never loses much against plain decoding. All that speculation lost or won is in `balance`, and a tree that is not
// known to pay (a probe), or a long catching-up, must fit into BUDGET of all time spent, a constant, and what was won.
// Probes grow rare while they do not pay; after one that did, the next follows at once.
//
// All is plain immutable data, without clock or chance. `Known` belongs to a deployment and goes from session to session,
// also while they run; the rest of `Adaptive` is one session's.
import { type Curve, costOf, countOf, learn, leastOf, type Timed, unknown } from "./costs.ts"
import { nodesOf, type TreeShape } from "./tree.ts"

/** What ran, in the order in which it ran; `calibrate` includes prefill of the draft, `verify` that of the base. */
export interface Passes {
  readonly verify: ReadonlyArray<Timed>
  readonly calibrate: ReadonlyArray<Timed>
  readonly steps: ReadonlyArray<Timed>
}

export interface Iteration extends Passes {
  readonly shape: TreeShape | null // null: plain decoding, of a token for each pass of `verify`
  readonly accepted: number // drafted tokens, so without the bonus token
  readonly millis: number // of the whole iteration, what lies between the passes included
}

interface Trials {
  readonly hits: number
  readonly tries: number
}
/** By width, then by depth from 1 on. */
type Acceptance = Readonly<Record<number, ReadonlyArray<Trials>>>

/** What all sessions of a deployment learn together. */
export interface Known {
  readonly costs: { readonly [kind in keyof Passes]: Curve }
  readonly overhead: { readonly plain: Timed; readonly speculative: Timed } // rows: iterations that were seen
  readonly acceptance: Acceptance
  readonly spent: number // millis, of everything
  readonly balance: number // millis that speculation won against plain decoding
  readonly quiet: number // iterations and plain steps since the last probe
  readonly interval: number // the same, from probe to probe
}

export interface Adaptive {
  readonly limits: TreeShape
  readonly known: Known
  readonly acceptance: Acceptance // of this session's text, and mostly of the newest part
  readonly tokens: number // of this session
}

const BUDGET = 0.02 // of all time spent
const CONSTANT = 1.5 // plain steps
const CREDIT = 0.05 // of all time spent: this much of what was won may be put at risk again
const WIDTHS = [1, 2, 4, 8]
const FIRST_INTERVAL = 4
const LAST_INTERVAL = 1024
const SESSION_MEMORY = 0.97 // weight that an iteration keeps when the next one comes
const DEPLOYMENT_MEMORY = 0.995
const PRIOR_TRIES = 4
const OWN_TRIES = 16 // that a width needs until its own trials weigh as much as those of all
const HOPE = 0.5 // of what is in doubt
const PRIOR = 0.7 // acceptance at depth 1 while nothing is known
const WIDENING = 0.7 // of the misses stay when the width is doubled, while nothing is known
const HORIZON = 32 // tokens that a session is thought to have before it, at least
const STAKE = 0.25 // of the expected winnings
const PROMISE = 0.95 // another width is probed if it may take this much of the best tree's time, or less
const DARING = 1.3 // and if it is not expected to take more than that
const MARGIN = 0.99 // a tree must promise this much of plain decoding's time, or less

const none: Known = {
  costs: { verify: unknown, calibrate: unknown, steps: unknown },
  overhead: { plain: { rows: 0, millis: 0 }, speculative: { rows: 0, millis: 0 } },
  acceptance: {},
  spent: 0,
  balance: 0,
  quiet: FIRST_INTERVAL,
  interval: FIRST_INTERVAL,
}

/**
 * What is known where more sessions run, so passes cost something else: how much of a draft is accepted does not change, and
 * as it pays less there, what was tried rarely is not tried more often.
 */
export const elsewhere = (known: Known | undefined): Known | undefined =>
  known && { ...none, acceptance: known.acceptance, quiet: 0, interval: known.interval }

/** A session's begin. `known`: what the deployment's sessions have learned so far. */
export const initial = (limits: TreeShape, known: Known = none): Adaptive => ({
  limits,
  known,
  acceptance: {},
  tokens: 0,
})

const broughtBy = ({ shape, accepted, verify }: Iteration): number =>
  shape === null ? Math.max(1, verify.length) : accepted + 1

/** Whether the draft has never run: a short prefill, which tells what it costs, is the price of knowing. */
export const isUnheard = ({ costs }: Known): boolean => costs.calibrate.fit.length === 0

/**
 * Whether to prefill the draft with a prompt of this many tokens, beside the base. Without it the draft catches up when it is
 * first asked, if that is ever worth it.
 */
export const primes = (state: Adaptive, tokens: number): boolean => {
  const plain = plainMillis(state.known)
  if (plain === undefined || isUnheard(state.known)) return true
  const best = favourite(state, tokens, Number.POSITIVE_INFINITY)
  return best !== null && pays(state, best, plain)
}

/** Learns from passes that are no iteration: the prompt's prefill, a warm-up. */
export const measured = (state: Adaptive, passes: Passes): Adaptive => {
  const { known } = state
  const staked = isUnheard(known) ? 0 : millisOf({ ...passes, verify: [] })
  const spent = known.spent + millisOf(passes)
  return { ...state, known: { ...known, costs: costsAfter(known, passes), spent, balance: known.balance - staked } }
}

/** Learns from an iteration. */
export const observe = (state: Adaptive, iteration: Iteration): Adaptive => {
  const { known } = state
  const { shape, millis } = iteration
  const costs = costsAfter(known, iteration)
  const kind = shape === null ? "plain" : "speculative"
  const brought = broughtBy(iteration)
  const between = (millis - millisOf(iteration)) / (shape === null ? brought : 1) // of a plain step, or of a whole iteration
  const overhead = { ...known.overhead, [kind]: mean(known.overhead[kind], between) }
  const spent = known.spent + millis
  const plain = plainMillis({ ...known, costs, overhead }) ?? 0
  const won = shape === null ? 0 : brought * plain - millis
  const balance = Math.min(known.balance + won, CREDIT * spent)
  const acceptance = tried(state.acceptance, SESSION_MEMORY, iteration)
  const learned = {
    ...{ costs, overhead, spent, balance, ...paceAfter(state, iteration, won) },
    acceptance: shape === null ? known.acceptance : tried(known.acceptance, DEPLOYMENT_MEMORY, iteration),
  }
  return { ...state, known: learned, acceptance, tokens: state.tokens + brought }
}

/**
 * The next iteration's tree, or null for a plain decoding step. `pending`: tokens that the draft's KV lacks, the bonus
 * token included; `remaining`: tokens that the session may still bring.
 */
export const choose = (
  state: Adaptive,
  pending: number,
  remaining: number = Number.POSITIVE_INFINITY,
): TreeShape | null => {
  const plain = plainMillis(state.known)
  if (plain === undefined || countOf(state.known.costs.verify, 1) < 2 || remaining < 2) return null
  const best = favourite(state, pending, remaining)
  const paying = best !== null && pays(state, best, plain) ? best : null
  const due = state.known.quiet >= state.known.interval
  return (due ? probeOf(state, pending, remaining, paying, plain) : null) ?? paying?.shape ?? null
}

const budgetOf = ({ known }: Adaptive, plain: number): number => BUDGET * known.spent + CONSTANT * plain

/**
 * Whether a tree promises to pay. Catching up must fit into what is left to risk and a part of what the tree should win, as
 * far as trials bear that out; without it a tree goes on until twice the budget is lost: that may be chance.
 */
const pays = (state: Adaptive, { perToken, catchUp, horizon }: Plan, plain: number): boolean => {
  const budget = budgetOf(state, plain)
  const { acceptance, balance } = state.known
  const tries = Object.values(acceptance).reduce((sum, trials) => sum + (trials[0]?.tries ?? 0), 0)
  const winnings = ((plain - perToken) * horizon * tries) / (tries + OWN_TRIES)
  const affordable = catchUp <= Math.max(0, budget + balance) + STAKE * winnings
  return perToken < MARGIN * plain && affordable && balance > -2 * budget
}

/**
 * The tree that is tried though the figures do not speak for it: the most hopeful one that fits into what is left to risk,
 * should nothing be accepted. Null: none is worth it.
 */
const probeOf = (
  state: Adaptive,
  pending: number,
  remaining: number,
  best: Plan | null,
  plain: number,
): TreeShape | null => {
  const risk = budgetOf(state, plain) + state.known.balance
  const hopes = plansOf(state, pending, remaining, true)
  const promising = plansOf(state, pending, remaining, false).flatMap((plan, i) => {
    const hope = hopes[i]?.perToken ?? Number.POSITIVE_INFINITY
    const other = best === null || (plan.shape.width !== best.shape.width && hope < PROMISE * best.perToken)
    const sane = best === null || plan.perToken < DARING * best.perToken
    return other && sane && plan.atOnce - plain <= risk ? [{ ...plan, perToken: hope }] : []
  })
  return fastest(promising)?.shape ?? null
}

/** Probes grow rare while they do not pay, and follow one another while they do; catching up is not held against them. */
const paceAfter = (state: Adaptive, iteration: Iteration, won: number): Pick<Known, "quiet" | "interval"> => {
  const { shape, calibrate, accepted } = iteration
  const { quiet, interval } = state.known
  const plain = plainMillis(state.known)
  if (shape === null || plain === undefined) return { quiet: quiet + broughtBy(iteration), interval }
  const pending = calibrate.reduce((sum, { rows }) => sum + rows, 0)
  const best = favourite(state, pending, Number.POSITIVE_INFINITY)
  const speculating = best !== null && best.perToken < MARGIN * plain
  if (speculating && best.shape.width === shape.width) return { quiet: quiet + 1, interval }
  const caughtUp = Math.max(0, calibration(state.known, pending) - calibration(state.known, accepted + 1))
  if (won + caughtUp > 0 && !speculating) return { quiet: interval, interval }
  return { quiet: 0, interval: Math.min(2 * interval, LAST_INTERVAL) }
}

interface Plan {
  readonly shape: TreeShape
  readonly perToken: number // millis, catching up included
  readonly catchUp: number // millis beyond the steady state
  readonly atOnce: number // millis of the next iteration
  readonly horizon: number // tokens over which catching up is spread
}

const favourite = (state: Adaptive, pending: number, remaining: number): Plan | null =>
  fastest(plansOf(state, pending, remaining, false))

const fastest = (plans: ReadonlyArray<Plan>): Plan | null =>
  plans.reduce<Plan | null>((best, plan) => (best === null || plan.perToken < best.perToken ? plan : best), null)

/** All trees that may be drafted; with `hopeful`, what is little known counts as good as it may be. */
const plansOf = (state: Adaptive, pending: number, remaining: number, hopeful: boolean): ReadonlyArray<Plan> =>
  WIDTHS.filter((width) => width <= state.limits.width).flatMap((width) => {
    const rates = ratesOf(state, width, hopeful)
    return Array.from({ length: Math.min(state.limits.depth, remaining - 1) }, (_, i) => {
      const shape = { depth: i + 1, width, nodes: Math.min(width * (i + 1), state.limits.nodes) }
      return planOf(state, shape, rates, pending, remaining, hopeful)
    })
  })

const planOf = (
  state: Adaptive,
  shape: TreeShape,
  rates: ReadonlyArray<number>,
  pending: number,
  remaining: number,
  hopeful: boolean,
): Plan => {
  const { costs, overhead } = state.known
  const expected = expectedTokens(rates, shape.depth)
  const verify = (hopeful ? leastOf : costOf)(costs.verify, 1 + nodesOf(shape)) ?? 0
  const step = (hopeful ? leastOf : costOf)(costs.steps, shape.width) ?? calibration(state.known, shape.width)
  const calibrate = calibration(state.known, expected)
  const catchUp = Math.max(0, calibration(state.known, pending) - calibrate)
  const between = overhead.speculative.rows > 0 ? overhead.speculative.millis : overhead.plain.millis
  const steady = calibrate + (shape.depth - 1) * step + verify + between
  const horizon = Math.min(remaining, Math.max(HORIZON, state.tokens))
  return { shape, perToken: steady / expected + catchUp / horizon, catchUp, atOnce: steady + catchUp, horizon }
}

/** Until the draft has run, it is thought to cost a quarter of its base. */
const calibration = ({ costs }: Known, rows: number): number =>
  costOf(costs.calibrate, rows) ?? costOf(costs.steps, rows) ?? (costOf(costs.verify, rows) ?? 0) / 4

const expectedTokens = (rates: ReadonlyArray<number>, depth: number): number => {
  let reached = 1
  let expected = 1
  for (const rate of rates.slice(0, depth)) {
    reached *= rate
    expected += reached
  }
  return expected
}

/**
 * a_w(d) for d = 1..: the width's own trials over what all widths' trials say. Misses of a wide tree count for more than
 * one of a chain, as many as the deployment's trials say; for the deployment, as many as WIDENING says. What is not tried
 * often goes by the depth above.
 */
const ratesOf = ({ acceptance, known, limits }: Adaptive, width: number, hopeful: boolean): ReadonlyArray<number> => {
  const rates: Array<number> = []
  let above: { long: number; now: number } | null = null // a chain's misses, one depth up
  for (let d = 0; d < limits.depth; d++) {
    const guessed = (w: number) => WIDENING ** Math.log2(w)
    const long = missesOf(known.acceptance, d, above?.long ?? 1 - PRIOR, guessed)
    const missed = (w: number) => over(known.acceptance[w]?.[d], guessed(w) * long)
    const widening = (w: number) => missed(w) / missed(1)
    const now = missesOf(acceptance, d, above === null ? missed(1) : (missed(1) + above.now) / 2, widening)
    const rate = 1 - over(acceptance[width]?.[d], Math.min(1, widening(width) * now))
    const doubt = PRIOR_TRIES / ((acceptance[width]?.[d]?.tries ?? 0) + PRIOR_TRIES)
    rates.push(hopeful ? rate + (1 - rate) * doubt * HOPE : rate)
    above = { long, now }
  }
  return rates
}

/** How often a chain misses at this depth, by the trials of all widths. `widening`: a width's misses for a chain's one. */
const missesOf = (
  acceptance: Acceptance,
  depth: number,
  prior: number,
  widening: (width: number) => number,
): number => {
  let [misses, tries] = [PRIOR_TRIES * prior, PRIOR_TRIES]
  for (const width of WIDTHS) {
    const trials = acceptance[width]?.[depth]
    if (trials === undefined) continue
    misses += (trials.tries - trials.hits) / widening(width)
    tries += trials.tries
  }
  return Math.min(1, misses / tries)
}

/** A width's own misses, with what all say as a prior. */
const over = (trials: Trials | undefined, prior: number): number => {
  const { hits, tries } = trials ?? { hits: 0, tries: 0 }
  return (tries - hits + OWN_TRIES * prior) / (tries + OWN_TRIES)
}

/** Every depth down to the first miss was tried. What is older counts less, in plain steps too: texts change. */
const tried = (acceptance: Acceptance, memoryOfOne: number, iteration: Iteration): Acceptance => {
  const { shape, accepted } = iteration
  const memory = shape === null ? memoryOfOne ** broughtBy(iteration) : memoryOfOne
  const widths = new Set([...Object.keys(acceptance).map(Number), ...(shape === null ? [] : [shape.width])])
  const trialsOf = (width: number) => {
    const trials = acceptance[width] ?? []
    const depth = shape === null || shape.width !== width ? 0 : Math.min(accepted + 1, shape.depth)
    return Array.from({ length: Math.max(trials.length, depth) }, (_, d) => {
      const { hits, tries } = trials[d] ?? { hits: 0, tries: 0 }
      return { hits: memory * hits + (d < depth && d < accepted ? 1 : 0), tries: memory * tries + (d < depth ? 1 : 0) }
    })
  }
  return Object.fromEntries([...widths].map((width) => [width, trialsOf(width)]))
}

const costsAfter = ({ costs }: Known, { verify, calibrate, steps }: Passes): Known["costs"] => ({
  verify: verify.reduce(learn, costs.verify),
  calibrate: calibrate.reduce(learn, costs.calibrate),
  steps: steps.reduce(learn, costs.steps),
})

const plainMillis = ({ costs, overhead }: Pick<Known, "costs" | "overhead">): number | undefined => {
  const verify = costOf(costs.verify, 1)
  return verify === undefined ? undefined : verify + overhead.plain.millis
}

const millisOf = ({ verify, calibrate, steps }: Passes): number =>
  [...verify, ...calibrate, ...steps].reduce((sum, { millis }) => sum + millis, 0)

const mean = ({ rows, millis }: Timed, newest: number): Timed => ({
  rows: rows + 1,
  millis: millis + Math.max(1 / (rows + 1), 0.1) * (Math.max(0, newest) - millis),
})

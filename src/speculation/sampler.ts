// The sampler: Gumbel-max with common random numbers ("Coupling without Communication and Drafter-Invariant Speculative
// Decoding", Daliri, Musco, Suresh 2024). Base and draft draw the same numbers for the same position, so a generation is a
// function of weights, prompt, settings and seed alone. Ranks run native/sampler/sampler.cpp, which is held to this by test.
import type { Sampling } from "../../native/index.ts"
import type { Position } from "./indices.ts"

interface Scored {
  readonly token: number
  readonly logit: number
}

/**
 * The token at `position`, `history` being what stands before it, from the first token on: argmax over v of
 * logit_v / T + g(seed, position, v).
 */
export const sample = (
  logits: Float32Array,
  sampling: Sampling,
  position: Position,
  history: ArrayLike<number>,
): number => {
  const { temperature, topK, topP, minP, seed } = sampling
  const tokens = Array.from(adjusted(logits, sampling, position, history), (logit, token) => ({ token, logit }))
  if (temperature === 0) return argmax(tokens)
  const ranked = tokens.toSorted((a, b) => b.logit - a.logit || a.token - b.token)
  const best = topK > 0 ? ranked.slice(0, topK) : ranked
  const left = atLeast(nucleus(best, temperature, topP), temperature, minP)
  const perturbed = left.map(({ token, logit }) => ({
    token,
    logit: logit / temperature + gumbel(seed, position, token),
  }))
  return argmax(perturbed)
}

/** The best one; of equals, the one with the lowest number. */
const argmax = (tokens: ReadonlyArray<Scored>): number =>
  tokens.reduce((best, one) =>
    one.logit > best.logit || (one.logit === best.logit && one.token < best.token) ? one : best,
  ).token

/** What a request changes of the logits before anything is cut. */
const adjusted = (
  logits: Float32Array,
  { repetitionPenalty, penalties, bias = [], barred }: Sampling,
  position: Position,
  history: ArrayLike<number>,
): Float32Array => {
  const biased = bias.reduce(biasOne, Float32Array.from(logits))
  const less = lessen(penalise(biased, repetitionPenalty, history), penalties, history)
  const out = new Set(barred !== undefined && position < barred.before ? barred.tokens : [])
  return less.map((logit, token) => (out.has(token) ? Number.NEGATIVE_INFINITY : logit))
}

const BAN = -100

const biasOne = (logits: Float32Array, [token, bias]: readonly [number, number]): Float32Array =>
  logits.map((logit, one) => (one !== token ? logit : bias <= BAN ? Number.NEGATIVE_INFINITY : logit + bias))

/** CTRL's penalty (Keskar et al. 2019): what has been said becomes less likely, once, however often it was said. */
const penalise = (logits: Float32Array, penalty: number, history: ArrayLike<number>): Float32Array => {
  const said = new Set(Array.from(history))
  return logits.map((logit, token) => (said.has(token) ? (logit > 0 ? logit / penalty : logit * penalty) : logit))
}

/** OpenAI's penalties, on what the answer has said: one for each time, and one for any. */
const lessen = (logits: Float32Array, penalties: Sampling["penalties"], history: ArrayLike<number>): Float32Array => {
  if (penalties === undefined) return logits
  const { presence, frequency, from } = penalties
  const times = new Map<number, number>()
  for (const token of Array.from(history).slice(from)) times.set(token, (times.get(token) ?? 0) + 1)
  return logits.map((logit, token) => {
    const often = times.get(token) ?? 0
    return often === 0 ? logit : logit - Math.fround(often * frequency) - presence
  })
}

/** Top-p: the fewest of the best tokens that have a share of p in the mass of those that top-k left; at least one. */
const nucleus = (ranked: ReadonlyArray<Scored>, temperature: number, p: number): ReadonlyArray<Scored> => {
  if (p >= 1) return ranked
  const weights = weightsOf(ranked, temperature)
  const needed = p * weights.reduce((sum, weight) => sum + weight, 0)
  let before = 0 // the mass of those that stand further up
  return ranked.filter((_, i) => {
    const kept = i === 0 || before < needed
    before += weights[i] ?? 0
    return kept
  })
}

/** Min-p: the tokens that are at least p times as likely as the best. */
const atLeast = (ranked: ReadonlyArray<Scored>, temperature: number, p: number): ReadonlyArray<Scored> => {
  const weights = weightsOf(ranked, temperature)
  return ranked.filter((_, i) => (weights[i] ?? 0) >= p)
}

/** Probabilities in terms of that of the best one, which stands first. */
const weightsOf = (ranked: ReadonlyArray<Scored>, temperature: number): ReadonlyArray<number> =>
  ranked.map(({ logit }) => Math.exp((logit - (ranked[0]?.logit ?? 0)) / temperature))

/** A standard Gumbel variate, keyed by (seed, position, token): the same on every rank. */
export const gumbel = (seed: bigint, position: Position, token: number): number => {
  const [word] = philox([token, position, 0, 0], [Number(BigInt.asUintN(32, seed)), Number(seed >> 32n)])
  return variate(word)
}

/** The Gumbel variate of a 32-bit word: -log(-log u), where u never is 0 or 1. */
export const variate = (word: number): number => -Math.log(-Math.log((word + 0.5) / 2 ** 32))

type Counter = readonly [number, number, number, number]
type Key = readonly [number, number]

/** Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): four words of a counter and a key. */
export const philox = (counter: Counter, key: Key): Counter => {
  let [c0, c1, c2, c3] = counter
  let [k0, k1] = key
  for (let round = 0; round < 10; round++) {
    const [aHigh, aLow] = product(0xd2511f53, c0)
    const [bHigh, bLow] = product(0xcd9e8d57, c2)
    ;[c0, c1, c2, c3] = [(bHigh ^ c1 ^ k0) >>> 0, bLow, (aHigh ^ c3 ^ k1) >>> 0, aLow]
    ;[k0, k1] = [(k0 + 0x9e3779b9) >>> 0, (k1 + 0xbb67ae85) >>> 0]
  }
  return [c0, c1, c2, c3]
}

/** The 64-bit product of two words, as its high and its low word. */
const product = (a: number, b: number): readonly [number, number] => {
  const ab = BigInt(a) * BigInt(b)
  return [Number(ab >> 32n), Number(ab & 0xffffffffn)]
}

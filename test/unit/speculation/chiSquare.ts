// Pearson's test: how likely counts at least this far from what was expected are, if the expectation is right.

/** P(X >= statistic) of the chi-square distribution with the degrees of freedom that the cells leave. */
export const chiSquare = (observed: ReadonlyArray<number>, probabilities: ReadonlyArray<number>): number => {
  const draws = observed.reduce((sum, count) => sum + count, 0)
  const cells = probabilities.map((p, i) => ({ expected: p * draws, count: observed[i] ?? 0 }))
  if (cells.some(({ expected, count }) => expected === 0 && count > 0)) return 0 // the impossible happened
  const possible = cells.filter(({ expected }) => expected > 0)
  const statistic = possible.reduce((sum, { expected, count }) => sum + (count - expected) ** 2 / expected, 0)
  return tail(statistic, possible.length - 1)
}

/** 1 - P(k / 2, x / 2), the regularised lower incomplete gamma function by its power series. */
export const tail = (x: number, k: number): number => {
  if (k === 0 || x === 0) return 1
  const [a, z] = [k / 2, x / 2]
  let term = Math.exp(a * Math.log(z) - z - logGamma(a + 1))
  if (term === 0) return z > a ? 0 : 1 // beyond what a float can hold
  let sum = term
  for (let n = 1; term > sum * 1e-16; n++) {
    term *= z / (a + n)
    sum += term
  }
  return Math.max(0, 1 - sum)
}

/** Of whole and half numbers. */
const logGamma = (a: number): number => {
  let sum = 0
  for (let at = a - 1; at > 0; at--) sum += Math.log(at)
  return Number.isInteger(a) ? sum : sum + Math.log(Math.sqrt(Math.PI))
}

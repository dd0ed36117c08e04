// How many tokens of a drafted chain are accepted, by N: measured with Qwen2.5-Coder, 0.5B drafting for 1.5B, with bonus
// calibration, along the base's own greedy text of HumanEval's tasks 0, 4, 11, 20, 33, 47, 58 and 66, 96 tokens each at most,
// with chains of eight (easyspec/draft.ts). The cost model takes acceptance as given: no pair of 70B and 8B runs here.

/** Chains of which 0, 1, ... 8 tokens were accepted. */
const CHAINS: Readonly<Record<number, ReadonlyArray<number>>> = {
  1: [6, 4, 6, 3, 2, 2, 1, 3, 60],
  2: [6, 4, 5, 6, 5, 1, 4, 3, 57],
  3: [9, 4, 8, 4, 5, 1, 4, 4, 54],
  4: [10, 8, 10, 8, 15, 7, 8, 11, 32],
  5: [11, 17, 17, 19, 21, 16, 8, 8, 17],
  6: [8, 26, 38, 31, 25, 14, 9, 2, 4],
  7: [12, 26, 47, 31, 22, 13, 5, 4, 5],
  8: [12, 47, 58, 39, 22, 9, 0, 1, 1],
}

/** Tokens accepted on average of a chain of `depth`, up to 8: a shorter chain ends where the longer one would have gone on. */
export const acceptedOf = (n: number, depth: number): number => {
  const chains = CHAINS[n] ?? []
  const all = chains.reduce((sum, count) => sum + count, 0)
  return chains.reduce((sum, count, accepted) => sum + count * Math.min(accepted, depth), 0) / all
}

export const measuredN: ReadonlyArray<number> = Object.keys(CHAINS).map(Number)

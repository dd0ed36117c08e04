// The head's three answers are about the same logits: the token is the sampler's, and the candidates are the best of them
// once the sampler's numbers are added.
import { afterAll, beforeAll, expect, test } from "vitest"
import type { Engine, Pass, Sampling } from "../../../native/index.ts"
import { positionOf } from "../../../src/speculation/indices.ts"
import { gumbel, sample } from "../../../src/speculation/sampler.ts"
import { all, argmax, chain, load, prompt } from "./shards.ts"

let engine: Engine
beforeAll(async () => {
  engine = await load()
})
afterAll(() => engine.dispose())

const ROWS = Int32Array.of(9, 0, 4) // of the batch, in no order
const K = 6

/** log of softmax(logit + T g), best first. */
const perturbed = (logits: Float32Array, { temperature, seed }: Sampling, position: number) => {
  const scores = Array.from(logits, (logit, token) => ({
    token,
    score: temperature === 0 ? logit : logit + temperature * gumbel(seed, positionOf(position), token),
  })).toSorted((a, b) => b.score - a.score || a.token - b.token)
  const mass = scores.reduce((sum, { score }) => sum + Math.exp(score - (scores[0]?.score ?? 0)), 0)
  return scores.map(({ token, score }) => ({ token, logProb: score - (scores[0]?.score ?? 0) - Math.log(mass) }))
}

const ADJUSTED: Sampling = {
  ...{ temperature: 0.7, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1.1, seed: 3n },
  penalties: { presence: 0.6, frequency: 1.2, from: 2 },
  bias: [
    [5, 3],
    [prompt[3] ?? 0, -100],
  ],
  barred: { tokens: [1, 2, 3], before: 6 },
}

const samplings: ReadonlyArray<readonly [string, Sampling]> = [
  ["greedy", argmax],
  ["at temperature 0.8", { ...argmax, temperature: 0.8, seed: 2n ** 63n + 5n }],
  ["at temperature 0.05", { ...argmax, temperature: 0.05, seed: 11n }],
  ["at temperature 5", { ...argmax, temperature: 5, seed: 12n }],
  ["with a top-k of half the vocabulary", { ...argmax, temperature: 1, topK: 2_048, topP: 0.99, seed: 13n }],
  ["with top-p alone", { ...argmax, temperature: 3, topP: 0.95, seed: 14n }],
  ["with every setting", { temperature: 1.3, topK: 50, topP: 0.9, minP: 0.01, repetitionPenalty: 1.3, seed: 7n }],
  ["with biases and penalties", ADJUSTED],
]
const CUT = [
  "with a top-k of half the vocabulary",
  "with top-p alone",
  "with every setting",
  "with biases and penalties",
] // so that `perturbed` is not what is left
test.each(samplings)("%s", async (name, sampling) => {
  engine.open(name, sampling)
  const pass: Pass = engine.begin([{ session: name, tokens: prompt, parents: chain(0, prompt.length) }])
  await pass.run([{ op: "embed" }, all])
  const head = { op: "head", rows: ROWS } as const
  const { logits } = await pass.run([{ ...head, want: "logits" }])
  const { tokens, logProbs } = await pass.run([{ ...head, want: "tokens" }])
  const alone = await pass.run([{ ...head, want: "tokens", top: K }])
  expect([alone.tokens, alone.logProbs]).toEqual([tokens, logProbs])
  const best = await pass.run([{ ...head, want: "candidates", k: K }])
  const vocab = (logits?.length ?? 0) / ROWS.length
  for (const [i, row] of ROWS.entries()) {
    const of = logits?.slice(i * vocab, (i + 1) * vocab) ?? new Float32Array(0)
    const token = sample(of, sampling, positionOf(row + 1), prompt.subarray(0, row + 1))
    expect(tokens?.[i]).toBe(token)
    expect(best.tokens?.[i * K]).toBe(token)
    const plain = perturbed(of, argmax, row + 1).find((other) => other.token === token)
    expect(logProbs?.[i]).toBeCloseTo(plain?.logProb ?? Number.NaN, 4)
    const most = perturbed(of, argmax, row + 1).slice(0, K) // the model's own, whatever the sampler makes of them
    const alternatives = { tokens: alone.topTokens, logProbs: alone.topLogProbs }
    expect([...(alternatives.tokens ?? [])].slice(i * K, (i + 1) * K)).toEqual(most.map((one) => one.token))
    for (const [j, one] of most.entries()) expect(alternatives.logProbs?.[i * K + j]).toBeCloseTo(one.logProb, 4)
    if (CUT.includes(name)) continue
    const expected = perturbed(of, sampling, row + 1).slice(0, K)
    expect([...(best.tokens ?? [])].slice(i * K, (i + 1) * K)).toEqual(expected.map((one) => one.token))
    for (const [j, { logProb }] of expected.entries()) expect(best.logProbs?.[i * K + j]).toBeCloseTo(logProb, 3)
  }
  pass.end()
  engine.close(name)
})

test("a row of a tree is penalised for the tokens of its own path, whatever the batch", async () => {
  const sampling = { ...ADJUSTED, temperature: 0 }
  const said = [prompt[0] ?? 0, prompt[1] ?? 0, prompt[1] ?? 0]
  engine.open("tree", sampling)
  const committing = engine.begin([{ session: "tree", tokens: Int32Array.from(said), parents: chain(0, said.length) }])
  await committing.run([{ op: "embed" }, all])
  committing.end()
  await engine.commit("tree", Int32Array.of(0, 1, 2))
  const tokens = Int32Array.of(7, 9, 9, 7, 9) // two branches below a root, of different lengths
  const parents = Int32Array.of(2, 3, 3, 4, 6)
  const paths = [[7], [7, 9], [7, 9], [7, 9, 7], [7, 9, 7, 9]]
  const pass = engine.begin([{ session: "tree", tokens, parents }])
  await pass.run([{ op: "embed" }, all])
  const head = { op: "head", rows: Int32Array.from(paths.keys()) } as const
  const { logits } = await pass.run([{ ...head, want: "logits" }])
  const chosen = await pass.run([{ ...head, want: "tokens" }])
  const drafted = await pass.run([{ ...head, want: "candidates", k: 1 }])
  const vocab = (logits?.length ?? 0) / paths.length
  const expected = paths.map((path, row) => {
    const history = [...said, ...path]
    const of = logits?.slice(row * vocab, (row + 1) * vocab) ?? new Float32Array(0)
    return sample(of, sampling, positionOf(history.length), history)
  })
  expect([...(chosen.tokens ?? [])]).toEqual(expected)
  expect([...(drafted.tokens ?? [])]).toEqual(expected)
  pass.end()
  engine.close("tree")
})

// The adaptive control sees the batch: one machine, one draft, and a number of sessions that decides whether it pays.
import { expect, test } from "vitest"
import type { GenerateRequest } from "../../../src/generation/request.ts"
import { begin, type Controlled, choose, learn, measure, prepares } from "../../../src/generation/speculationControl.ts"
import type { Known } from "../../../src/speculation/adaptive.ts"

const PROMPT = Array.from({ length: 20 }, (_, i) => i)
const request: GenerateRequest = {
  ...{ session: "s", prompt: [0, ...PROMPT], maxTokens: 2000, stop: [], speculation: "adaptive", fuzzy: 1 },
  ...{ deadlineMillis: null, interestMillis: null, minTokens: 0, ignoreEos: false },
  sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0n },
  ...{ trace: false, logprobs: null, promptLogprobs: null, after: 0, model: "m", client: null, answerTo: null },
}

/** Milliseconds of a call over this many rows: the weights are read once, and each row takes some computing. */
const call = (rows: number): number => 10 + rows

/** A pass of `rows` while the others decode plainly: the whole call takes its time, and the pass has its share of the computing. */
const costOf = (rows: number, sessions: number, factor = 1) => {
  const all = rows + sessions - 1
  const millis = factor * call(all)
  return { millis, computeMillis: (millis * rows) / all }
}

/** Four of five drafted tokens are accepted. */
const MOSTLY = (token: number): boolean => token % 5 !== 4

/** With its prompt, among so many. */
const sessionAmong = (sessions: number, learned: { current: Known | undefined }, committed = 0): Controlled => {
  const models = { draft: {}, learned }
  return {
    run: { request, running: () => sessions },
    journal: { tokens: request.prompt },
    placed: { models, draft: { committed } },
    control: begin(request, models),
  }
}

/** After some more tokens. */
const grown = (generation: Controlled, tokens: number): Controlled => ({
  ...generation,
  journal: { tokens: [...generation.journal.tokens, ...Array.from({ length: tokens }, () => 1)] },
})

/** Runs iterations of one session among a number of them; how many iterations drafted. */
const run = (
  sessions: number,
  learned: { current: Known | undefined },
  iterations: number,
  isAccepted = MOSTLY,
): number => {
  let generation = sessionAmong(sessions, learned)
  let drafted = 0
  let token = 0
  for (let i = 0; i < iterations; i++) {
    const shape = choose(generation)
    const before = generation.journal.tokens.length
    if (shape === null) {
      const cost = costOf(1, sessions)
      const decoded = measure(generation, "verify", 1, cost)
      generation = grown(learn(decoded, { shape, accepted: 0, millis: cost.millis }), 1)
      continue
    }
    drafted += 1
    const pending = before - generation.placed.draft.committed
    const calibrate = costOf(pending, sessions, 0.1)
    generation = measure(generation, "calibrate", pending, calibrate)
    let millis = calibrate.millis
    for (let depth = 1; depth < shape.depth; depth++) {
      const step = costOf(shape.width, sessions, 0.1)
      generation = measure(generation, "steps", shape.width, step)
      millis += step.millis
    }
    generation = { ...generation, placed: { ...generation.placed, draft: { committed: before } } }
    const verify = costOf(1 + shape.nodes, sessions)
    generation = measure(generation, "verify", 1 + shape.nodes, verify)
    let accepted = 0
    while (accepted < shape.depth && isAccepted(token++)) accepted += 1
    generation = grown(learn(generation, { shape, accepted, millis: millis + verify.millis }), accepted + 1)
  }
  return drafted / iterations
}

test("a session alone drafts where a wider pass costs little more; among many it stops", () => {
  const learned = { current: undefined }
  expect(run(1, learned, 200)).toBeGreaterThan(0.7)
  expect(run(64, learned, 200)).toBeLessThan(0.2)
  expect(run(1, learned, 50)).toBeGreaterThan(0.9) // what was learned among many has not been forgotten, nor mixed up
})

test("among many, one session tries a tree for all of them", () => {
  const learned = { current: undefined }
  run(1, learned, 100)
  let sessions = Array.from({ length: 64 }, () => sessionAmong(64, learned, request.prompt.length - 1))
  let tried = 0
  for (let round = 0; round < 20; round++) {
    const shapes = sessions.map(choose)
    const drafting = shapes.filter((shape) => shape !== null).length
    expect(drafting).toBeLessThanOrEqual(1)
    tried += drafting
    const cost = costOf(1, 64)
    const decoded = sessions.map((session) => measure(session, "verify", 1, cost))
    sessions = decoded.map((session) => learn(session, { shape: null, accepted: 0, millis: cost.millis }))
  }
  expect(tried).toBeGreaterThan(0)
})

test("what does not pay with fewer sessions is not tried again for each doubling", () => {
  const never = () => false
  const learned = { current: undefined }
  run(1, learned, 400, never)
  for (const sessions of [2, 4, 16, 64]) expect(run(sessions, learned, 60, never)).toBe(0)
  expect(run(64, { current: undefined }, 60, never)).toBeGreaterThan(0) // a control that knows nothing has to try
})

test("with a few sessions, it drafts less than alone", () => {
  const [alone, few] = [1, 16].map((sessions) => run(sessions, { current: undefined }, 300))
  expect(few).toBeLessThan(alone ?? 0)
})

test("among others the draft's KV is not filled only to learn what it costs", () => {
  const learned = { current: undefined }
  expect(prepares(sessionAmong(1, learned))).toBe(true)
  expect(prepares(sessionAmong(16, learned))).toBe(false)
})

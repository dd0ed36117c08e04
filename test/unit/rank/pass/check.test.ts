// What a rank refuses before it touches anything, and how it says so.
import { expect, test } from "vitest"
import { check } from "../../../../src/rank/pass/check.ts"
import type { Draft, PassCommand, Prefill, SessionDraft, Verify } from "../../../../src/wire/pass.ts"

const bounds = { vocab: 100, context: 64, maxRows: 8 }
const of = { session: "s", epoch: 1, pass: 1, attempt: 0, committed: 10 }
const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0n }
const prefill = (change: Partial<Prefill> = {}): Prefill => ({
  ...of,
  _tag: "Prefill",
  tokens: [1, 2],
  sampling,
  ...change,
})
const verify = (change: Partial<Verify> = {}): Verify => ({
  ...{ ...of, _tag: "Verify", acceptedRows: [0], tokens: [1, 2, 3], parents: [-1, 0, 0] },
  ...change,
})
const draft = (change: Partial<SessionDraft> = {}): Draft => {
  const good = { session: "s", committed: 10, accepted: [1], depth: 3, width: 2, nodes: 6 }
  return { _tag: "Draft", epoch: 1, pass: 1, attempt: 0, fuzzy: 4, sessions: [good, { ...good, ...change }] }
}
const refusal = (command: PassCommand) => check(bounds, command)?.message ?? null

test("what fits is let through", () => {
  for (const command of [prefill(), prefill({ tokens: [] }), verify(), draft()]) expect(refusal(command)).toBeNull()
  expect(refusal(draft({ committed: 60 }))).toBeNull() // the bonus token and three more
})

test("the refused field is named, with its value and what was expected", () => {
  const nine = Array<number>(9).fill(1)
  expect(refusal(prefill({ tokens: nine }))).toBe("tokens: has 9 tokens, a pass takes 8. Send them in chunks")
  expect(refusal(prefill({ tokens: [1, 100] }))).toBe("tokens[1]: is 100, the vocabulary has 100 tokens")
  expect(refusal(prefill({ committed: 63 }))).toBe("tokens: reaches position 65, the context holds 64")
  const bias = [
    [5, 1],
    [100, 1],
  ] as const
  expect(refusal(prefill({ sampling: { ...sampling, bias } }))).toBe(
    "sampling.bias[1]: is of token 100, the vocabulary has 100 tokens",
  )
  expect(refusal(prefill({ sampling: { ...sampling, barred: { tokens: [100], before: 3 } } }))).toBe(
    "sampling.barred.tokens[0]: is 100, the vocabulary has 100 tokens",
  )
  expect(refusal(verify({ tokens: [], parents: [] }))).toBe("tokens: is empty; a pass needs at least one token")
  expect(refusal(verify({ parents: [-1, 0] }))).toBe("parents: has 2 entries for 3 tokens")
  expect(refusal(verify({ parents: [0, 0, 0] }))).toBe("parents[0]: is 0; expected -1")
  expect(refusal(verify({ parents: [-1, 0, 2] }))).toBe("parents[2]: is 2; expected a row from 0 to 1")
  expect(refusal(verify({ parents: [-1, -1, 0] }))).toBe("parents[1]: is -1; expected a row from 0 to 0")
  expect(refusal(verify({ acceptedRows: [0, 2, 2] }))).toBe("acceptedRows[2]: is 2; rows are named in rising order")
  expect(refusal(verify({ committed: 1, acceptedRows: [0, 1] }))).toBe(
    "acceptedRows: has 2 rows, more than the 1 committed tokens",
  )
  expect(refusal(draft({ accepted: [] }))).toBe("sessions[1].accepted: is empty; a pass needs at least one token")
  expect(refusal(draft({ accepted: [1, 200] }))).toBe("sessions[1].accepted[1]: is 200, the vocabulary has 100 tokens")
  expect(refusal(draft({ width: 9 }))).toBe("sessions[1].width: is 9, a pass takes 8 rows")
  expect(refusal(draft({ committed: 61 }))).toBe("sessions[1].depth: reaches position 65, the context holds 64")
})

test("a tree counts by its depth, not by its rows", () => {
  expect(refusal(verify({ committed: 61, tokens: [1, 2, 3, 4], parents: [-1, 0, 0, 0] }))).toBeNull()
  expect(refusal(verify({ committed: 61, tokens: [1, 2, 3, 4], parents: [-1, 0, 1, 2] }))).toBe(
    "tokens: reaches position 65, the context holds 64",
  )
})

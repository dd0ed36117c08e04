// Control messages through msgpack: typed errors and 64-bit seeds survive, and what is wrong is refused by field.
import { Result } from "effect"
import { expect, test } from "vitest"
import { codec } from "../../../src/wire/codec.ts"
import { PeerSilent, UnknownSession } from "../../../src/wire/errors.ts"
import { PassAnswer, PassCommand } from "../../../src/wire/pass.ts"
import { groupSubjects, hostSubjects, isName, subjectsOf } from "../../../src/wire/subjects.ts"

const commands = codec("pass command", PassCommand)
const answers = codec("pass answer", PassAnswer)

const sampling = {
  penalties: { presence: 0.5, frequency: -2, from: 7 },
  bias: [
    [5, -100],
    [70_000, 0.25],
  ] as const,
  barred: { tokens: [2, 3], before: 9 },
  temperature: 0.8,
  topK: 40,
  topP: 0.9,
  minP: 0,
  repetitionPenalty: 1,
  seed: 2n ** 64n - 1n,
}
const prefill: PassCommand = {
  ...{ _tag: "Prefill", session: "s", epoch: 1, pass: 2, attempt: 0, committed: 0 },
  ...{ tokens: [1, 2, 3], sampling },
}

test("a command survives the wire, its seed in all 64 bits", () => {
  expect(Result.getOrThrow(commands.decode(commands.encode(prefill)))).toEqual(prefill)
  for (const seed of [0n, 1n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n]) {
    const command = { ...prefill, sampling: { ...sampling, seed } }
    expect(Result.getOrThrow(commands.decode(commands.encode(command)))).toEqual(command)
  }
})

test("a typed error survives the wire as what it is", () => {
  const error = new UnknownSession({ group: "draft", rank: 1, session: "s", expected: 9, actual: -1 })
  const answer = Result.getOrThrow(answers.decode(answers.encode({ _tag: "Refused", pass: 3, error })))
  if (answer._tag !== "Refused") throw new Error(answer._tag)
  expect(answer.error).toBeInstanceOf(UnknownSession)
  expect(answer.error.message).toBe("rank 1 of draft holds -1 of session s's 9 tokens. Prefill it again.")
  const silent = new PeerSilent({ group: "draft", rank: 1, peer: 0, step: 2 })
  const second = Result.getOrThrow(answers.decode(answers.encode({ _tag: "Refused", pass: 3, error: silent })))
  expect(second._tag === "Refused" && second.error.message).toBe(
    "rank 1 of draft waited in vain for rank 0 in step 2 of a pass",
  )
})

test("what is no command is refused, with the field", () => {
  const failureOf = (message: Uint8Array) => Result.getOrThrow(Result.flip(commands.decode(message)))
  expect(failureOf(new Uint8Array([0xc1])).field).toBe("message")
  const { encode } = codec("anything", PassCommand)
  expect(failureOf(encode(prefill).subarray(0, 20)).message).toMatch(/^malformed pass command: message: not msgpack/)
  const other = codec("pass answer", PassAnswer).encode({ _tag: "Verified", pass: 1, choices: [], cost: COST })
  expect(failureOf(other).kind).toBe("pass command")
})

const COST = { millis: 1, computeMillis: 1, hops: 0, messages: 0, bytes: 0 }

test("subjects of a deployment, and what may stand in one", () => {
  const subjects = subjectsOf("demo")
  const group = groupSubjects({ deployment: "demo", epoch: 7, group: "draft" })
  expect(group.activation(1)).toBe("chorus.v1.demo.group.7.draft.rank.1.act")
  expect(group.beat(1)).toBe(subjects.beat("7.draft.1"))
  expect(isName(hostSubjects("a").control.split(".")[2] ?? "")).toBe(false) // so no deployment is taken for a host
  expect(subjects.beats.slice(0, -1)).toBe(subjects.beat(""))
  expect(["demo", "a-b_C9", "", "a.b", "a b", "*", ">", "x".repeat(65)].map(isName)).toEqual([
    ...[true, true, false, false, false, false, false, false],
  ])
})

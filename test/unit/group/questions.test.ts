// A group's questions: each ends once, by its own answer or with the reason why none will come.
import { expect, test } from "vitest"
import { type Question, type QuestionOutcome, Questions } from "../../../src/group/questions.ts"
import { PeerSilent } from "../../../src/wire/errors.ts"
import type { Decode, PassAnswer, PassCommand } from "../../../src/wire/pass.ts"

const command: Decode = {
  ...{
    _tag: "Decode",
    session: "s",
    epoch: 1,
    pass: 7,
    attempt: 0,
    committed: 3,
    acceptedRows: [],
    token: 4,
    steps: 1,
  },
}
const cost = { millis: 0, computeMillis: 0, hops: 0, messages: 0, bytes: 0 }
const decoded: PassAnswer = { _tag: "Decoded", pass: 7, tokens: [5], cost }
const peerSilent: PassAnswer = {
  ...{ _tag: "Refused", pass: 7, error: new PeerSilent({ group: "base", rank: 0, peer: 1, step: 1 }) },
}

const asked = (questions: Questions, what: PassCommand = command) => {
  const [sent, ends]: [Array<Question>, Array<QuestionOutcome>] = [[], []]
  const asker = {
    send: (question: Question) => void sent.push(question),
    end: (o: QuestionOutcome) => void ends.push(o),
  }
  questions.ask(what, asker)
  const last = (): Question => sent.at(-1) ?? { command: what, asker }
  return { sent, ends, asker, last, attempts: () => sent.map(({ command }) => command.attempt) }
}

test("an answer ends its question, and a second one belongs to none", () => {
  const questions = new Questions("base", 1)
  const { last, ends } = asked(questions)
  questions.answered(last(), decoded)
  questions.answered(last(), { ...decoded, tokens: [6] })
  expect(ends).toEqual([decoded])
})

test("a lost connection has every question sent again with a higher attempt, and an old attempt's answer is dropped", () => {
  const questions = new Questions("base", 1)
  const { last, ends, attempts } = asked(questions)
  const first = last()
  questions.lost()
  expect(attempts()).toEqual([0, 1])
  questions.answered(first, decoded)
  expect(ends).toEqual([])
  questions.answered(last(), decoded)
  expect(ends).toEqual([decoded])
})

test("a rank that missed its peer is asked again, and not without end", () => {
  const questions = new Questions("base", 1)
  const { last, ends, attempts } = asked(questions)
  for (let i = 0; i < 10; i++) questions.answered(last(), peerSilent)
  expect(attempts()).toEqual([0, 1, 2, 3, 4])
  expect(ends).toEqual([peerSilent])
})

test("a connection that is lost again and again ends the question", () => {
  const questions = new Questions("base", 1)
  const { ends } = asked(questions)
  for (let i = 0; i < 10; i++) questions.lost()
  expect(ends).toMatchObject([{ _tag: "GroupSilent", blameless: true }])
})

test("a rank that ended may be a session's doing, a replica that was given up is not", () => {
  const [silent, givenUp] = [new Questions("base", 1), new Questions("base", 1)]
  const asking = [asked(silent), asked(givenUp)]
  silent.leave("rank 1 was not heard")
  givenUp.leave("its ranks were given up", true)
  const blameless = asking.map(({ ends: [end] }) => end?._tag === "GroupSilent" && end.blameless === true)
  expect(blameless).toEqual([false, true])
})

test("while a rank is not back, nothing is sent; then all is", () => {
  const questions = new Questions("base", 1)
  const early = asked(questions)
  questions.gather(false)
  questions.lost()
  const later = asked(questions)
  expect([early.attempts(), later.attempts()]).toEqual([[0], []])
  questions.gather(true)
  expect([early.attempts(), later.attempts()]).toEqual([[0, 1], [0]])
})

test("a group that is gone ends every question, also those to come, with the first reason", () => {
  const questions = new Questions("base", 1)
  const sent = asked(questions)
  questions.gather(false)
  const waiting = asked(questions)
  questions.leave("rank 1 was not heard")
  questions.leave("its ranks were given up")
  const late = asked(questions)
  const gone = { _tag: "GroupSilent", reason: "rank 1 was not heard" }
  for (const { ends } of [sent, waiting, late]) expect(ends).toMatchObject([gone])
})

test("a question that is no longer waited for is neither sent again nor ended", () => {
  const questions = new Questions("base", 1)
  const { asker, last, ends, attempts } = asked(questions)
  questions.withdraw(asker)
  questions.lost()
  questions.answered(last(), decoded)
  expect([attempts(), ends]).toEqual([[0], []])
})

test("where the group goes on in another epoch, everything is asked there again when its ranks are there", () => {
  const questions = new Questions("base", 1)
  const { sent } = asked(questions)
  questions.gather(false)
  questions.move(4)
  expect(sent.length).toBe(1)
  questions.gather(true)
  expect(sent.map(({ command: { epoch, attempt } }) => [epoch, attempt])).toEqual([
    [1, 0],
    [4, 1],
  ])
})

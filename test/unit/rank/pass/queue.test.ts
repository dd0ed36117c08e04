// A rank's decisions: one pass of a session at a time, each answered, repeated or refused; none is forgotten.
import { expect, test } from "vitest"
import { type PassOutcome, PassQueue, type QueueAction, refused, type Turn } from "../../../../src/rank/pass/queue.ts"
import { UnknownSession } from "../../../../src/wire/errors.ts"
import type { Send } from "../../../../src/wire/kv.ts"
import type { Draft, Prefill, Verify } from "../../../../src/wire/pass.ts"

const SAMPLING = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 1n }
const verify = (pass: number, attempt = 0, session = "s"): Verify => ({
  ...{ _tag: "Verify", session, epoch: 3, pass, attempt, committed: 4, acceptedRows: [], tokens: [1], parents: [-1] },
})
const prefill = (pass: number): Prefill => ({
  ...{ _tag: "Prefill", session: "s", epoch: 3, pass, attempt: 0, committed: 0, tokens: [1], sampling: SAMPLING },
})
const draft = (session: string) => ({ session, committed: 1, accepted: [1], depth: 1, width: 1, nodes: 1 })
const wish = (from: number): Send => ({
  ...{ _tag: "Send", number: 1, session: "s", rank: 0, from, to: from + 1, shard: "all", sampling: SAMPLING },
  target: { epoch: 4, group: "base" },
})
const COST = { millis: 0, computeMillis: 0, hops: 0, messages: 0, bytes: 0 }
const verified = (pass: number) => ({ _tag: "Verified", pass, choices: [7], cost: COST }) as const
const holds = () => true

const leader = () => new PassQueue<string>({ group: "base", rank: 0, epoch: 3, leads: true })
const follower = () => new PassQueue<string>({ group: "base", rank: 1, epoch: 3, leads: false })

type Actions = ReadonlyArray<QueueAction<string>>

/** The actions in short: what an answer says and to which asker, which pass begins or is stopped. */
const told = (actions: Actions) =>
  actions.flatMap((action) => {
    switch (action._tag) {
      case "Answer":
        return [
          `${action.answer._tag === "Refused" ? action.answer.error._tag : action.answer._tag} to ${action.askers}`,
        ]
      case "Begin":
      case "Stop":
        return [`${action._tag} ${nameOf(action.turn)}`]
      default:
        return []
    }
  })
const nameOf = (turn: Turn<string>) => {
  switch (turn._tag) {
    case "Pass":
      return turn.lane.command.pass
    case "Free":
      return `free ${turn.session}`
    case "Give":
      return `give ${turn.wish.from}`
  }
}
const begun = (actions: Actions): Turn<string> => {
  const action = actions.find(({ _tag }) => _tag === "Begin")
  if (action?._tag !== "Begin") throw new Error("nothing begins")
  return action.turn
}
const ended = (passes: PassQueue<string>, turn: Turn<string>, outcome: PassOutcome, still = holds): Actions => [
  ...(turn._tag === "Pass" ? passes.settled(turn.lane, outcome) : []),
  ...passes.ended(turn, still),
]
const exchanges = (actions: Actions) =>
  actions.flatMap((action) =>
    action._tag === "Open" || action._tag === "Leave" ? [`${action._tag} ${action.lane.command.pass}`] : [],
  )

test("a pass runs at once and is answered to all that have asked; later askers hear it again", () => {
  const passes = leader()
  const turn = begun(passes.command(verify(5), "a"))
  expect(told(passes.command(verify(5), "b"))).toEqual([])
  expect(told(ended(passes, turn, verified(5)))).toEqual(["Verified to a,b"])
  expect(told(passes.command(verify(5), "c"))).toEqual(["Verified to c"])
  expect(told(passes.reconnected([]))).toEqual(["Verified to a,b,c"])
})

test("older passes and attempts are refused by the leader alone", () => {
  for (const [passes, answers] of [[leader(), ["InvalidRequest to b"]] as const, [follower(), []] as const]) {
    ended(passes, begun(passes.command(verify(5, 1), "a")), null)
    expect(told(passes.command(verify(5, 0), "b"))).toEqual(answers)
    expect(told(passes.command(verify(4, 3), "b"))).toEqual(answers)
    expect(told(passes.command(verify(5, 2), "a"))).toEqual(["Begin 5"])
  }
})

test("every rank refuses a command of another epoch", () => {
  expect(told(follower().command({ ...verify(5), epoch: 2 }, "a"))).toEqual(["WrongEpoch to a"])
})

test("a prefill from the start begins anew, whatever its number", () => {
  const passes = leader()
  ended(passes, begun(passes.command(verify(5), "a")), verified(5))
  expect(told(passes.command(prefill(2), "b"))).toEqual(["Begin 2"])
})

test("a newer pass stops the leader's and begins when that has ended", () => {
  const passes = leader()
  const first = begun(passes.command(verify(5), "a"))
  const second = passes.command(verify(6), "b")
  expect(told(second)).toEqual(["Stop 5"])
  expect(exchanges(second)).toEqual(["Open 6", "Leave 5"])
  expect(told(ended(passes, first, "stopped"))).toEqual(["Cancelled to a", "Begin 6"])
})

test("a rank that does not lead lets its pass end first", () => {
  const passes = follower()
  const first = begun(passes.command(verify(5), "a"))
  expect(told(passes.command(verify(6), "b"))).toEqual([])
  expect(told(ended(passes, first, null))).toEqual(["Begin 6"])
})

test("a pass that is superseded before it begins is answered and never begins", () => {
  const passes = leader()
  const first = begun(passes.command(verify(5), "a"))
  passes.command(verify(6), "b")
  expect(told(passes.command(verify(7), "c"))).toEqual([]) // 5 is being stopped already
  expect(told(ended(passes, first, "stopped"))).toEqual(["Cancelled to a", "Cancelled to b", "Begin 7"])
})

test("a session's KV is freed after its pass: Release waits for it, Abort stops it", () => {
  for (const [_tag, stops] of [["Release", []] as const, ["Abort", ["Stop 5"]] as const]) {
    const passes = leader()
    const first = begun(passes.command(verify(5), "a"))
    expect(told(passes.control({ _tag, session: "s" }))).toEqual(stops)
    const next = ended(passes, first, verified(5))
    expect(told(next)).toEqual(["Verified to a", "Begin free s"])
    expect(told(passes.command(verify(5), "b"))).toEqual([]) // waits for the end, and will find nothing there
    expect(told(ended(passes, begun(next), null, () => false))).toEqual(["Begin 5"])
  }
})

test("a session that the rank does not hold leaves nothing behind", () => {
  const passes = leader()
  const turn = begun(passes.command(verify(5), "a"))
  const unknown = new UnknownSession({ group: "base", rank: 0, session: "s", expected: 4, actual: -1 })
  ended(passes, turn, refused(5, unknown), () => false)
  expect(passes.reconnected([])).toEqual([])
  expect(told(passes.command(verify(2), "b"))).toEqual(["Begin 2"])
})

test("sessions that draft together wait for each one's last pass, and each waits for them", () => {
  const passes = leader()
  const both: Draft = {
    ...{ _tag: "Draft", epoch: 3, pass: 5, attempt: 0, fuzzy: 1, sessions: [draft("s"), draft("t")] },
  }
  const alone = begun(passes.command(verify(3, 0, "t"), "a"))
  const together = passes.command(both, "b")
  expect(told(together)).toEqual(["Stop 3"])
  const turn = begun(ended(passes, alone, "stopped"))
  expect(told(passes.control({ _tag: "Abort", session: "s" }))).toEqual([]) // not for one alone
  expect(told(passes.command(verify(9, 0, "t"), "c"))).toEqual(["Stop 5"])
  expect(told(ended(passes, turn, "stopped"))).toEqual(["Cancelled to b", "Begin free s", "Begin 9"])
})

test("a session that is no longer mentioned is freed after a while, in case its Release was not heard", () => {
  const passes = leader()
  const minutes = (count: number) => Array.from({ length: count }, () => told(passes.tick(["s"]))).flat()
  ended(passes, begun(passes.command(verify(5), "a")), verified(5))
  expect(minutes(10)).toEqual([])
  ended(passes, begun(passes.command(verify(6), "b")), verified(6))
  expect(minutes(10)).toEqual([])
  expect(minutes(1)).toEqual(["Begin free s"])
})

test("after its connection was lost a rank keeps what is spoken of, and the rest for a minute or two", () => {
  const passes = leader()
  const tick = () => told(passes.tick(["s", "t"]))
  ended(passes, begun(passes.command(verify(5), "a")), verified(5))
  ended(passes, begun(passes.command(verify(6, 0, "t"), "b")), verified(6))
  passes.reconnected(["s", "t"])
  expect(tick()).toEqual([])
  ended(passes, begun(passes.command(verify(7), "c")), verified(7))
  expect(tick()).toEqual(["Begin free t"])
})

test("rows are given between two passes, and a pass that begins waits for them", () => {
  const passes = follower()
  const first = begun(passes.command(verify(5), "a"))
  expect(told(passes.give(wish(0)))).toEqual([])
  expect(told(passes.command(verify(6), "b"))).toEqual([])
  const given = ended(passes, first, null)
  expect(told(given)).toEqual(["Begin give 0"])
  expect(told(ended(passes, begun(given), null))).toEqual(["Begin 6"])
})

test("a pass is stopped though rows are to be given after it", () => {
  for (const stop of [
    (passes: PassQueue<string>) => passes.control({ _tag: "Abort", session: "s" }),
    (passes: PassQueue<string>) => passes.command(verify(6), "b"),
  ]) {
    const passes = leader()
    passes.command(verify(5), "a")
    passes.give(wish(0))
    passes.give(wish(1))
    expect(told(stop(passes))).toEqual(["Stop 5"])
  }
})

test("a rank whose group goes on in another epoch stops every pass and answers none", () => {
  const passes = leader()
  const first = begun(passes.command(verify(5), "a"))
  const other = begun(passes.command(verify(5, 0, "t"), "b"))
  passes.command(verify(6), "c")
  const abandoned = passes.abandon()
  expect(told(abandoned)).toEqual(["Stop 5"]) // the other one is being stopped already
  expect(exchanges(abandoned)).toEqual(["Leave 6", "Leave 5"])
  expect(told(ended(passes, first, "stopped"))).toEqual([])
  expect(told(ended(passes, other, verified(5)))).toEqual([])
})

// Early, late and doubled activations: each finds its place or is dropped, and what is not waited for is bounded.
import { Result } from "effect"
import { expect, test } from "vitest"
import { HELD_BYTES, Inbox, passKey } from "../../../src/group/inbox.ts"
import { type Activation, decode, encode } from "../../../src/wire/activation.ts"
import { decode as decodePart, split } from "../../../src/wire/part.ts"

const LIMITS = { earlyBytes: 2.5 * (40 + HELD_BYTES), endedPasses: 4 }

const activation = (at: Partial<Activation> = {}): Activation => ({
  ...{ epoch: 1, pass: 1, attempt: 0, step: 1, rank: 0, blocks: 1, tokens: 1, width: 10, messages: 1, bytes: 88 },
  ...{ nodes: new Uint8Array(0), values: new Uint8Array(40) },
  ...at,
})
const key = passKey({ pass: 1, attempt: 0 })

test("an early activation waits for its pass and is taken once", () => {
  const inbox = new Inbox(LIMITS)
  expect(inbox.deliver(activation())).toBe(true)
  expect(inbox.take(key, 1, 0)).toBeUndefined() // not open yet
  inbox.open(key)
  expect(inbox.take(key, 1, 0)?.step).toBe(1)
  expect(inbox.take(key, 1, 0)).toBeUndefined()
})

test("a doubled activation is dropped, before it is read and after", () => {
  const inbox = new Inbox(LIMITS)
  inbox.open(key)
  expect(inbox.deliver(activation())).toBe(true)
  expect(inbox.deliver(activation())).toBe(false)
  inbox.take(key, 1, 0)
  expect(inbox.deliver(activation())).toBe(false)
})

test("a late activation, of an ended pass or an abandoned attempt, is dropped", () => {
  const inbox = new Inbox(LIMITS)
  inbox.open(key)
  inbox.close(key)
  expect(inbox.deliver(activation())).toBe(false)
  inbox.open(passKey({ pass: 1, attempt: 1 }))
  expect(inbox.deliver(activation())).toBe(false)
  expect(inbox.deliver(activation({ attempt: 1 }))).toBe(true)
  expect(inbox.take(passKey({ pass: 1, attempt: 1 }), 1, 0)?.attempt).toBe(1)
})

test("a pass that waits gets the activation when it comes, or null when it is closed", () => {
  const inbox = new Inbox(LIMITS)
  const heard: Array<number | null> = []
  inbox.open(key)
  inbox.wait(key, 2, 3, (came) => heard.push(came?.rank ?? null))
  inbox.wait(key, 3, 3, (came) => heard.push(came?.rank ?? null))
  inbox.deliver(activation({ step: 2, rank: 3 }))
  expect(heard).toEqual([3])
  inbox.close(key)
  expect(heard).toEqual([3, null])
  inbox.wait(key, 4, 3, (came) => heard.push(came?.rank ?? null))
  expect(heard).toEqual([3, null, null])
})

test("a lost connection ends every wait", () => {
  const inbox = new Inbox(LIMITS)
  const heard: Array<null | Activation> = []
  for (const pass of [1, 2]) {
    inbox.open(passKey({ pass, attempt: 0 }))
    inbox.wait(passKey({ pass, attempt: 0 }), 1, 0, (came) => heard.push(came))
  }
  inbox.closeAll()
  expect(heard).toEqual([null, null])
})

test("early activations are bounded: the oldest pass goes first", () => {
  const inbox = new Inbox(LIMITS)
  for (const pass of [1, 2, 3]) inbox.deliver(activation({ pass }))
  const kept = [1, 2, 3].filter((pass) => {
    inbox.open(passKey({ pass, attempt: 0 }))
    return inbox.take(passKey({ pass, attempt: 0 }), 1, 0) !== undefined
  })
  expect(kept).toEqual([2, 3]) // two and a half of them fit
})

test("parts of an activation that is announced as endless take what has come, and no more", () => {
  const inbox = new Inbox(LIMITS)
  const part = { epoch: 1, pass: 1, attempt: 0, step: 1, rank: 0, count: 2 ** 32 - 1, piece: new Uint8Array(1) }
  for (let index = 0; index < 100; index++) expect(inbox.deliverPart({ ...part, index })).toBeUndefined()
  for (let step = 0; step < 100; step++) inbox.deliver(activation({ step, width: 0, values: new Uint8Array(0) }))
  inbox.open(key)
  expect(inbox.take(key, 1, 0)).toBeUndefined() // more than the limit: gone with its pass
})

test("parts make an activation in any order, doubles among them", () => {
  const inbox = new Inbox({ ...LIMITS, earlyBytes: 10_000 })
  const whole = activation({ width: 50, values: Uint8Array.from({ length: 200 }, (_, i) => i) })
  const parts = split(whole, [encode(whole)], 100).map((part) => Result.getOrThrow(decodePart(part)))
  const [first, ...rest] = parts.reverse()
  if (first === undefined) throw new Error("no parts")
  expect(rest.length).toBeGreaterThan(1)
  expect(inbox.deliverPart(first)).toBeUndefined()
  expect(inbox.deliverPart(first)).toBeUndefined()
  const last = rest.map((part) => inbox.deliverPart(part)).at(-1)
  if (last === undefined) throw new Error("not whole")
  expect([...Result.getOrThrow(decode(last)).values]).toEqual([...whole.values])
})

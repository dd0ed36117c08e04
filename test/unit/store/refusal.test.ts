// What errors of storage mean, as nats-server 2.15.1 gives them.
import { JetStreamApiError } from "@nats-io/jetstream"
import { InvalidArgumentError, NoRespondersError, RequestError, TimeoutError } from "@nats-io/transport-node"
import { expect, test } from "vitest"
import { isConflict, isMissing, refusalOf } from "../../../src/store/refusal.ts"
import { StorageHealth } from "../../../src/store/storageHealth.ts"

const api = (err_code: number, description: string) => new JetStreamApiError({ code: 400, err_code, description })
const nobodyAt = (subject: string) => new RequestError("no responders", { cause: new NoRespondersError(subject) })
/** What the client makes of a stream's subject without responder, and of the API's. */
const notEnabled = (subject: string) => new Error("jetstream is not enabled", { cause: nobodyAt(subject) })

const refusal = (error: unknown) => refusalOf("STREAM", error)?.message

test("a lost race is one, whether the winner is written yet or not, and no refusal", () => {
  for (const error of [api(10071, "wrong last sequence: 3"), api(10164, "wrong last sequence")]) {
    expect(isConflict(error)).toBe(true)
    expect(refusal(error)).toBeUndefined()
  }
  expect(isConflict(api(10158, "duplicate message id is in process"))).toBe(false)
  expect(refusal(api(10158, "duplicate message id is in process"))).toBeUndefined() // asked again, it is known
})

test("a stream that is gone is not one that is off", () => {
  const missing = [
    api(10059, "stream not found"),
    notEnabled("chorus.v1.demo.tokens.s"),
    nobodyAt("$JS.API.DIRECT.GET.KV_b.$KV.b.k"),
  ]
  for (const error of missing) {
    expect(isMissing(error)).toBe(true)
    expect(refusal(error)).toBeUndefined()
  }
  for (const error of [notEnabled("$JS.API.INFO"), api(10039, "not enabled for account"), api(10076, "not enabled")]) {
    expect(isMissing(error)).toBe(false)
    expect(refusal(error)).toMatch(/^the storage STREAM on NATS refuses: JetStream is not enabled/)
  }
})

test("what is full says so, and what is too large will always be", () => {
  expect(refusal(api(10023, "insufficient resources"))).toMatch(/insufficient resources: it is full. Make room/)
  const tooLarge = refusalOf("STREAM", InvalidArgumentError.format("payload", "max_payload size exceeded"))
  expect(tooLarge).toMatchObject({ storage: "STREAM", tooLarge: true })
  expect(tooLarge?.message).toMatch(/max_payload/)
})

test("a server that has not answered yet, or chooses a leader, does not refuse", () => {
  for (const error of [
    new TimeoutError(),
    api(10008, "temporarily unavailable"),
    new Error("the connection was lost"),
  ]) {
    expect(refusal(error)).toBeUndefined()
  }
})

test("a refusal is news once, until it is another, or over", () => {
  const health = new StorageHealth()
  const full = refusalOf("STREAM", api(10023, "insufficient resources"))
  if (full === null) throw new Error("it is a refusal")
  expect([health.refuses(full, 0), health.refuses(full, 500)]).toEqual([true, false])
  expect(health.reason(1_000)).toMatch(/^STREAM: insufficient resources/)
  expect([health.takes("STREAM"), health.takes("STREAM"), health.reason(1_000)]).toEqual([true, false, ""])
  health.refuses(full, 2_000)
  expect(health.reason(20_000)).toBe("") // the last refusal is long ago
})

// What goes on to a supervisor: choices with seeds of their own, and errors in OpenAI's words.
import fc from "fast-check"
import { expect, test } from "vitest"
import { NotServed } from "../../../src/client/errors.ts"
import { fromClient, responseOf } from "../../../src/gateway/errors.ts"
import { choicesOf, requestOf } from "../../../src/gateway/sampling.ts"
import { ContextExceeded, GroupSilent, InvalidRequest } from "../../../src/wire/errors.ts"

const request = { model: "m" }

test("the first choice has the seed itself, and no two have the same", () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), fc.integer({ min: 1, max: 16 }), (seed, n) => {
      const seeds = choicesOf(requestOf({ ...request, seed }, "c"), n).map(({ seed }) => seed ?? -1n)
      expect(seeds[0]).toBe(BigInt.asUintN(64, BigInt(seed)))
      expect(new Set(seeds).size).toBe(n)
      for (const one of seeds) expect(one >= 0n && one < 2n ** 64n).toBe(true)
    }),
  )
  expect(choicesOf(requestOf(request, "c"), 2).map(({ seed }) => seed)).toEqual([undefined, undefined])
})

test("null is as good as left out", () => {
  const fields = [
    "stop",
    "seed",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "repeat_penalty",
    ...["presence_penalty", "frequency_penalty", "logit_bias", "min_tokens", "ignore_eos"],
  ]
  const nulls = Object.fromEntries(fields.map((field) => [field, null]))
  expect(requestOf({ ...request, ...nulls }, "c")).toEqual(requestOf(request, "c"))
})

test("errors of the wire get a status, OpenAI's names for the fields, and a time to come again", () => {
  const of = (error: unknown) => {
    const { status, param, code, message } = fromClient(error)
    return { status, param, code, message }
  }
  expect(of(new InvalidRequest({ field: "maxTokens", reason: "is 0" }))).toMatchObject({
    status: 400,
    param: "max_tokens",
  })
  expect(of(new InvalidRequest({ field: "tokens[3]", reason: "is 9" }))).toMatchObject({
    status: 400,
    param: "prompt[3]",
  })
  expect(of(new ContextExceeded({ prompt: 9, maxTokens: 9, context: 9 })).message).toMatch(/lower max_tokens\.$/)
  expect(of(new GroupSilent({ group: "base", reason: "gone" }))).toMatchObject({
    status: 503,
    code: "generation_failed",
  })
  expect(of(new TypeError("a bug"))).toMatchObject({ status: 500, code: "internal_error" })
  const { headers } = responseOf(fromClient({ _tag: "Overloaded", retryAfterMillis: 1_200, message: "full" }))
  expect(headers).toMatchObject({ "retry-after": "2", "retry-after-ms": "1200" })
  expect(responseOf(fromClient(new NotServed({ deployment: "d", url: "u" })))).toMatchObject({ status: 503 })
})

// Chat templates and tokenizers are code from a model's files. Whatever it does, the supervisor that asked goes on: its
// event loop turns meanwhile, it hears a reason, and the next request is served.
import { spawnSync } from "node:child_process"
import { Effect, Exit, Scope } from "effect"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { encode } from "../../../src/model/encoding.ts"
import type { Model } from "../../../src/model/index.ts"
import { type Encoder, StartEncoder } from "../../../src/session/encoder.ts"
import { opened, tinyTokenizer, writeFolder } from "../model/fixtures.ts"

const messages = [{ role: "user", content: "Hi there" }]
const SOUND = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"

const scope = Scope.makeUnsafe()
let encoder: Encoder
beforeAll(async () => {
  encoder = await Effect.runPromise(Scope.provide(Effect.flatten(StartEncoder), scope))
})
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

const withTemplate = (template: string): Promise<Model> =>
  opened(writeFolder({ files: { "chat_template.jinja": template } }))

const textOf = (model: Model, tokens: Int32Array): string =>
  Buffer.concat(Array.from(tokens, (token) => model.tokenizer.bytes(token))).toString()

/** What the template says, or why it says nothing. */
const said = async (template: string): Promise<string> => {
  const model = await withTemplate(template)
  const tokens = encoder.encode(model, { messages })
  return Effect.runPromise(
    Effect.match(tokens, { onSuccess: (tokens) => textOf(model, tokens), onFailure: ({ message }) => message }),
  )
}

/** Whether the event loop turned all the while: five times a second at the least, on the average. */
const turning = async <A>(use: () => Promise<A>): Promise<A> => {
  const began = performance.now()
  let turns = 0
  const timer = setInterval(() => turns++, 10)
  const result = await use()
  clearInterval(timer)
  expect(turns).toBeGreaterThanOrEqual(Math.floor((performance.now() - began) / 200) - 1)
  return result
}

describe("a template that asks for too much", () => {
  const grow = (step: string, times: number) =>
    `{% set ns = namespace(x='aaaaaaaa', y=[1]) %}{% for i in range(${times}) %}${step}{% endfor %}`
  test.each([
    ["a range without end", "{% for i in range(10**9) %}x{% endfor %}", /memory|took more than/],
    ["a range as one text", "{{ range(10**9) | join }}", /memory|took more than/],
    [
      "nested loops",
      "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
      /took more than 2000 ms/,
    ],
    [
      "a text that doubles",
      `${grow("{% set ns.x = ns.x + ns.x %}", 99)}{{ ns.x | upper }}`,
      /Invalid string length|memory/,
    ],
    ["a list that doubles", `${grow("{% set ns.y = ns.y + ns.y %}", 99)}`, /memory|took more than|Invalid/],
    ["a text that is replaced by more", grow("{% set ns.x = ns.x | replace('a', 'aa') %}", 60), /Invalid|memory|took/],
    [
      "an indentation without end",
      "{{ messages | tojson(indent=10**9) }}",
      /Invalid count value|Invalid string length/,
    ],
    [
      "a macro that calls itself",
      "{% macro f(x) %}{{ g(g, x) }}{% endmacro %}{% macro g(h, x) %}{{ h(h, x + 'a') }}{% endmacro %}{{ g(g, 'a') }}",
      /stack|took/,
    ],
    ["brackets without end", `{{ ${"(".repeat(60_000)}1${")".repeat(60_000)} }}`, /stack/],
    ["conditions without end", "{% if 1 %}".repeat(9_000) + "{% endif %}".repeat(9_000), /stack|no tokens|^$/],
  ])("%s", async (_, template, reason) => {
    expect(await turning(() => said(template))).toMatch(reason)
    expect(await said(SOUND)).toBe("<user>Hi there")
  })
})

describe("a template that looks behind the values it was given", () => {
  const names = ["constructor", "__proto__", "prototype", "toString", "valueOf", "__defineGetter__", "mainModule"]
  test.each(names)("%s of anything is undefined", async (name) => {
    const values = ["''", "1", "[]", "{}", "messages", "messages[0]", "true", "namespace()", "range", "bos_token"]
    for (const value of values) {
      for (const access of [`${value}.${name}`, `(${value})['${name}']`, `(${value}) | attr('${name}')`]) {
        expect(await said(`{{ ${access} }}`), access).not.toMatch(/native code|function|\[object|=>/)
        expect(await said(`{{ ${access} is defined }}`), access).toMatch(/^False$|failed: /)
      }
    }
  })

  test.each([
    "{{ ''.constructor.constructor('return process')() }}",
    "{{ range.constructor('return process.env')() }}",
    "{{ messages.map.constructor('return 1')() }}",
    "{% set x = messages.__proto__ %}{% set x.polluted = 1 %}",
    "{{ process.env }}{{ globalThis }}{{ require('fs') }}",
    "{% import 'fs' as fs %}",
    "{% include '/etc/passwd' %}",
  ])("%s", async (template) => {
    expect(await said(template)).toMatch(/the chat template of .* failed: /)
    expect("polluted" in {}).toBe(false)
  })
})

test("it says what encoding here says", async () => {
  const model = await withTemplate(SOUND)
  for (const given of [{ messages }, { text: "<|im_start|> a\u0000 ä 漢 😀" }, { text: "" }]) {
    const here = await Effect.runPromise(encode(model, given))
    expect(await Effect.runPromise(encoder.encode(model, given))).toEqual(here)
  }
})

test("a process that was killed is started again, and the request is served", async () => {
  expect(await said(SOUND)).toBe("<user>Hi there")
  for (const settled of [true, false]) {
    const { stdout } = spawnSync("pgrep", ["-P", String(process.pid), "-f", "actors/encoder.ts"], { encoding: "utf8" })
    expect(stdout.trim()).toMatch(/^\d+$/)
    process.kill(Number(stdout), "SIGKILL")
    if (settled) await expect.poll(() => isThere(Number(stdout))).toBe(false)
    expect(await said(SOUND)).toBe("<user>Hi there")
  }
})

const isThere = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

describe("a tokenizer that takes its time", () => {
  test("an expression that tries everything is stopped", async () => {
    const pre_tokenizer = { type: "Split", pattern: { Regex: "^(\\w+\\s?)*$" }, behavior: "Isolated", invert: false }
    const model = await opened(writeFolder({ tokenizer: { ...tinyTokenizer(), pre_tokenizer } }))
    const failed = encoder.encode(model, { text: `${"a".repeat(60)}!` })
    expect(await Effect.runPromise(Effect.flip(failed))).toMatchObject({ _tag: "EncodingFailed" })
  })

  test.each([
    ["one letter", "a", 300_000],
    ["spaces", " ", 10_000_000],
    ["line breaks", "\n", 300_000],
    ["digits", "7", 300_000],
    ["beginnings of control tokens", "<|", 300_000],
    ["half characters", "\ud800", 300_000],
  ])("a text of nothing but %s", async (_, unit, length) => {
    const model = await opened("models/demo/base")
    const text = unit.repeat(length / unit.length)
    const result = await turning(() => Effect.runPromise(Effect.result(encoder.encode(model, { text }))))
    if (result._tag === "Failure") expect(result.failure).toMatchObject({ _tag: "EncodingFailed" })
    else expect(result.success.length).toBeGreaterThan(length / 1000)
  })
})

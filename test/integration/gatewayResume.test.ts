// A stream over HTTP that breaks off, since its gateway is killed or its client loses the connection, goes on at any other
// gateway behind the last event that came: nothing twice, nothing missing, and by default no client is waited for.
import { jetstreamManager } from "@nats-io/jetstream"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import type { Ending } from "../../src/client/index.ts"
import { entryAt } from "../../src/store/logReader.ts"
import type { InferRequest } from "../../src/wire/infer.ts"
import { subjectsOf, TOKEN_STREAM } from "../../src/wire/subjects.ts"
import { Cluster } from "./cluster.ts"
import { chatModel, type Gateway, startGateway } from "./gateways.ts"
import { PROMPT } from "./requests.ts"

const model = "demo"
const SAMPLED = { model, stream: true, max_tokens: 240, temperature: 0.8, seed: 5 }
const COMPLETION = { ...SAMPLED, prompt: PROMPT }
const CHAT = { ...SAMPLED, messages: [{ role: "user", content: "Say something." }] }
const KEEP = { "x-chorus-resume": "30" }

const base = chatModel()
let cluster: Cluster
let gateway: Gateway // the one that stays
beforeAll(async () => {
  // One long session at a time, or several shorter ones.
  const limits = { kvTokens: 1_024, queue: 8, keepMillis: 0 }
  cluster = await Cluster.start({ name: model, base: base.path, context: 1_024, limits })
  gateway = await startGateway(cluster.local)
})
afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]()
  await cluster?.[Symbol.asyncDispose]()
  base[Symbol.dispose]()
})

type Route = "completions" | "chat/completions"

interface Event {
  readonly id: string
  readonly data: string
}

const post = (url: string, route: Route, body: object, headers: Record<string, string> = {}, signal?: AbortSignal) =>
  fetch(`${url}/v1/${route}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
    signal: signal ?? null,
  })

/** Until the stream ends or breaks off; each has the id that a client would send back after it, as the standard says. */
async function* eventsOf(response: Response, from = ""): AsyncGenerator<Event, void, void> {
  expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/event-stream; charset=utf-8"])
  if (response.body === null) return
  let rest = ""
  let id = from
  try {
    for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
      const blocks = (rest + piece).split("\n\n")
      rest = blocks.pop() ?? ""
      for (const block of blocks) {
        const lines = block.split("\n")
        id = lines.find((line) => line.startsWith("id: "))?.slice("id: ".length) ?? id
        const data = lines.find((line) => line.startsWith("data: "))
        if (data !== undefined) yield { id, data: data.slice("data: ".length) }
      }
    }
  } catch (error) {
    expect(error).toBeInstanceOf(TypeError) // "terminated": the connection broke off
  }
}

const collect = async (events: AsyncIterable<Event>): Promise<ReadonlyArray<Event>> => {
  const all: Array<Event> = []
  for await (const event of events) all.push(event)
  return all
}

const whole = async (route: Route, body: object, headers: Record<string, string> = KEEP) =>
  collect(eventsOf(await post(gateway.url, route, body, headers), headers["last-event-id"]))

/**
 * What is said of each choice in turn, and what is said last: everything but what names the answer, and the fingerprint of
 * what computes it, which a gateway that has just started has not heard yet.
 */
const saidIn = (events: ReadonlyArray<Event>) => {
  const said = new Map<string, Array<unknown>>()
  for (const { data } of events) {
    if (data === "[DONE]") said.set("end", [data])
    else {
      const { id: _, created: __, system_fingerprint: ___, ...chunk } = JSON.parse(data)
      const of = chunk.choices?.[0] === undefined ? "last" : `choice ${chunk.choices[0].index}`
      said.set(of, [...(said.get(of) ?? []), chunk])
    }
  }
  return Object.fromEntries(said)
}

const namesIn = (events: ReadonlyArray<Event>) =>
  new Set(
    events
      .filter(({ data }) => data !== "[DONE]")
      .map(({ data }) => {
        const { id, created } = JSON.parse(data)
        return `${id} of ${created}`
      }),
  )

/** Reads some events, kills the gateway, and reads what had left it by then. */
const untilKilled = async (
  route: Route,
  body: object,
  headers: Record<string, string> = KEEP,
): Promise<ReadonlyArray<Event>> => {
  await using doomed = await startGateway(cluster.local)
  const had: Array<Event> = []
  for await (const event of eventsOf(await post(doomed.url, route, body, headers))) {
    had.push(event)
    if (had.length === 12) doomed.child.kill("SIGKILL")
  }
  return had
}

const lastId = (events: ReadonlyArray<Event>) => events.at(-1)?.id ?? ""

const usage = { stream_options: { include_usage: true } }
const cases: ReadonlyArray<readonly [string, Route, object]> = [
  ["a completion, with its usage", "completions", { ...COMPLETION, ...usage }],
  ["a chat, with log-probabilities", "chat/completions", { ...CHAT, logprobs: true, top_logprobs: 2 }],
  ["two choices, with offsets in the text", "completions", { ...COMPLETION, n: 2, logprobs: 1, ...usage }],
  ["two choices of a chat", "chat/completions", { ...CHAT, n: 2, ...usage }],
]
test.each(cases)("what a killed gateway left undone, another one does: %s", async (_, route, body) => {
  const undisturbed = await whole(route, body)
  const had = await untilKilled(route, body)
  expect(had.length).toBeLessThan(undisturbed.length / 2)
  const rest = await whole(route, body, { "last-event-id": lastId(had) })
  expect(saidIn([...had, ...rest])).toEqual(saidIn(undisturbed))
  expect(had.length + rest.length).toBe(undisturbed.length)
  expect(namesIn([...had, ...rest]).size).toBe(1)
})

test("stop strings end it at the same place", async () => {
  const text = (events: ReadonlyArray<Event>) =>
    events.map(({ data }) => (data === "[DONE]" ? "" : (JSON.parse(data).choices[0]?.text ?? ""))).join("")
  const unstopped = text(await whole("completions", COMPLETION))
  const stop = unstopped.slice(-60, -40) // deep in the answer, and in the middle of tokens
  const body = { ...COMPLETION, stop }
  const had = await untilKilled("completions", body)
  const rest = await whole("completions", body, { "last-event-id": lastId(had) })
  expect(text([...had, ...rest])).toBe(unstopped.slice(0, unstopped.indexOf(stop)))
})

test("a client that did not ask for ids gets the same events without any", async () => {
  const asked = await post(gateway.url, "completions", { ...COMPLETION, max_tokens: 12, ...usage })
  const text = await asked.text()
  expect(text.split("\n").filter((line) => line !== "" && !line.startsWith("data: "))).toEqual([])
  const events = text.split("\n\n").flatMap((block) => (block === "" ? [] : [{ id: "", data: block.slice(6) }]))
  expect(saidIn(events)).toEqual(saidIn(await whole("completions", { ...COMPLETION, max_tokens: 12, ...usage })))
})

test("any event may have been the last one, after the end too", async () => {
  const all = await whole("completions", { ...COMPLETION, max_tokens: 12, ...usage })
  for (const [at, { id }] of all.entries()) {
    const rest = await whole("completions", { ...COMPLETION, max_tokens: 12, ...usage }, { "last-event-id": id })
    // [DONE] has no id of its own.
    expect(rest).toEqual(at === all.length - 1 ? all.slice(-1) : all.slice(at + 1))
  }
})

describe("a client that hangs up", () => {
  const hangUp = async (route: Route, body: object, headers: Record<string, string>, after: number) => {
    const controller = new AbortController()
    const had: Array<Event> = []
    for await (const event of eventsOf(await post(gateway.url, route, body, headers, controller.signal))) {
      had.push(event)
      if (had.length === after) break
    }
    controller.abort()
    return had
  }
  const sessionOf = (id: string) => id.split(/[.:]/)[2] ?? ""
  const entryOf = (id: string, which: "first" | "last") =>
    entryAt(cluster.client.connection, subjectsOf(model).tokens(sessionOf(id)), which)
  const endOf = async (id: string): Promise<Ending> => (await cluster.client.find(sessionOf(id))).ending()

  test("may come back where it has said so, as often as it likes", async () => {
    const undisturbed = await whole("completions", COMPLETION)
    const had = [...(await hangUp("completions", COMPLETION, KEEP, 5))]
    for (const after of [7, 20]) {
      had.push(...(await hangUp("completions", COMPLETION, { ...KEEP, "last-event-id": lastId(had) }, after)))
    }
    had.push(...(await whole("completions", COMPLETION, { "last-event-id": lastId(had) })))
    expect(had.length).toBe(undisturbed.length)
    expect(saidIn(had)).toEqual(saidIn(undisturbed))
  })

  test("is not waited for otherwise, also not when it came back before", async () => {
    const body = { ...COMPLETION, max_tokens: 900 }
    const had = await hangUp("completions", body, KEEP, 3)
    await hangUp("completions", body, { "last-event-id": lastId(had) }, 3)
    expect(await endOf(lastId(had))).toMatchObject({ finishReason: "cancelled" })
  })

  test("is waited for as long as it has said, and no longer", async () => {
    // The line stands still behind sessions each of which takes all the memory.
    const long: InferRequest = {
      ...{ prompt: PROMPT, maxTokens: 900, temperature: 1, fuzzy: 1, speculation: { depth: 8, width: 4, nodes: 32 } },
    }
    const fillers = await Promise.all([1, 2, 3, 4].map(() => cluster.client.generate(long)))
    const had = await hangUp("chat/completions", CHAT, { "x-chorus-resume": "1" }, 1)
    const left = performance.now()
    expect(await entryOf(lastId(had), "first")).toMatchObject({ entry: { _tag: "Begin", interestMillis: 1_500 } })
    await expect
      .poll(() => entryOf(lastId(had), "last"))
      .toMatchObject({ entry: { _tag: "End", finishReason: "cancelled" } })
    expect(performance.now() - left).toBeGreaterThan(1_000)
    for (const filler of fillers) filler.cancel()
    const rest = await whole("chat/completions", CHAT, { "last-event-id": lastId(had) })
    expect(rest.map(({ data }) => JSON.parse(data).error.code)).toEqual(["cancelled"])
  })

  test("and whose gateway is killed: its session ends by itself", async () => {
    const [kept] = await untilKilled("completions", COMPLETION, KEEP)
    expect(await entryOf(kept?.id ?? "", "first")).toMatchObject({ entry: { _tag: "Begin", interestMillis: 45_000 } })
    const [plain] = await untilKilled("completions", COMPLETION, {})
    const session: string = JSON.parse(plain?.data ?? "").id.replace("cmpl-", "")
    const first = await entryAt(cluster.client.connection, subjectsOf(model).tokens(session), "first")
    expect(first).toMatchObject({ entry: { _tag: "Begin", interestMillis: 10_000 } })
  })
})

describe("refusals", () => {
  const refusal = async (route: Route, body: object, headers: Record<string, string>) => {
    const response = await post(gateway.url, route, body, headers)
    const { error } = (await response.json()) as { readonly error: object }
    return { status: response.status, ...error }
  }
  let id: string
  beforeAll(async () => {
    id = lastId(await whole("completions", { ...COMPLETION, max_tokens: 4 }))
  })
  const wrong = { type: "invalid_request_error", code: "invalid_value" }

  test.each([
    ["that is none", "completions", COMPLETION, "12", /no id of this route/],
    ["of a subject's wildcard", "completions", COMPLETION, "cmpl.1.*:0", /no id of this route/],
    ["that is empty", "completions", COMPLETION, "", /no id of this route/],
    ["of another route", "chat/completions", CHAT, null, /no id of this route/],
    ["of another number of choices", "completions", { ...COMPLETION, n: 2 }, null, /of a stream of 1 choices/],
    ["without a stream", "completions", { ...COMPLETION, stream: false }, null, /stream: true/],
  ] as const)("an id %s", async (_, route, body, given, message) => {
    expect(await refusal(route, body, { "last-event-id": given ?? id })).toMatchObject({
      ...{ ...wrong, status: 400, param: "Last-Event-ID", message: expect.stringMatching(message) },
    })
  })

  test("an id whose session there is not, or not any more, or of another model", async () => {
    const expired = { status: 404, code: "session_expired", param: "Last-Event-ID", type: "invalid_request_error" }
    const unknown = "cmpl.1767225600.00000000-0000-4000-8000-000000000000:3"
    expect(await refusal("completions", COMPLETION, { "last-event-id": unknown })).toMatchObject(expired)
    await using other = await Cluster.start({
      name: "other",
      draft: null,
      nats: cluster.local.url,
      keys: cluster.local.keys ?? "",
    })
    expect(other.local.url).toBe(cluster.local.url)
    const elsewhere = { ...COMPLETION, model: "other" }
    expect(await refusal("completions", elsewhere, { "last-event-id": id })).toMatchObject(expired)
    const { streams } = await jetstreamManager(cluster.client.connection)
    await streams.purge(TOKEN_STREAM, { filter: subjectsOf(model).tokens("*") })
    expect(await refusal("completions", COMPLETION, { "last-event-id": id })).toMatchObject(expired)
  })

  test.each(["0", "soon", "-1", "1.5", "3601", ""])("X-Chorus-Resume: %j", async (seconds) => {
    expect(await refusal("completions", COMPLETION, { "x-chorus-resume": seconds })).toMatchObject({
      ...{ ...wrong, status: 400, param: "X-Chorus-Resume", message: expect.stringMatching(/from 1 to 3600/) },
    })
  })
})

describe("an end that was not asked for", () => {
  const errorOf = (events: ReadonlyArray<Event>) => JSON.parse(events.at(-1)?.data ?? "{}").error
  const serverError = { type: "server_error", status: 503, param: null }

  test("of a gateway is a server's error, and another one goes on", async () => {
    const long: InferRequest = {
      ...{ prompt: PROMPT, maxTokens: 900, temperature: 1, fuzzy: 1, speculation: { depth: 8, width: 4, nodes: 32 } },
    }
    const fillers = await Promise.all(Array.from({ length: 7 }, () => cluster.client.generate(long)))
    await using doomed = await startGateway(cluster.local)
    const had: Array<Event> = []
    const left = (async () => {
      for await (const event of eventsOf(await post(doomed.url, "chat/completions", CHAT, KEEP))) had.push(event)
    })()
    const asked = post(doomed.url, "completions", { ...COMPLETION, stream: false }, { "x-request-id": "told-to-end" })
    await expect.poll(() => had.length).toBe(1) // the rest waits in line
    doomed.child.kill("SIGTERM")
    await left
    expect(errorOf(had)).toMatchObject({ ...serverError, code: "shutting_down" })
    const whole503 = await asked
    expect([whole503.status, whole503.headers.get("retry-after")]).toEqual([503, "1"])
    expect(await whole503.json()).toMatchObject({ error: { type: "server_error", code: "shutting_down" } })
    expect(doomed.said()).toMatch(/503 shutting_down.*told-to-end/s)
    for (const filler of fillers) filler.cancel()
    const rest = await whole("chat/completions", CHAT, { "last-event-id": had[0]?.id ?? "" })
    expect(saidIn([...had.slice(0, -1), ...rest])).toEqual(saidIn(await whole("chat/completions", CHAT)))
  })

  test("of the deployment is one too", async () => {
    const stream = eventsOf(await post(gateway.url, "completions", { ...COMPLETION, max_tokens: 1_000 }))
    const had = [(await stream.next()).value ?? { id: "", data: "" }]
    await cluster[Symbol.asyncDispose]()
    had.push(...(await collect(stream)))
    expect(errorOf(had)).toMatchObject({ ...serverError, code: "generation_failed" })
    expect(errorOf(had).message).toMatch(/was ended/)
  })
})

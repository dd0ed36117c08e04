// Whatever is wrong with a request, it is refused in OpenAI's form with a status that blames the client, and the gateway
// goes on as if nothing had been. The requests are wrong by construction, in the ways in which requests can be.
import { readFileSync } from "node:fs"
import { Agent, request as httpRequest } from "node:http"
import { connect } from "node:net"
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib"
import { Effect, Exit, Scope } from "effect"
import fc from "fast-check"
import { afterAll, beforeAll, expect, test } from "vitest"
import { start } from "../../src/natsServer/natsServer.ts"
import { type Gateway, startGateway } from "./gateways.ts"

const BODY_LIMIT = 65_536
const scope = Scope.makeUnsafe()
const agent = new Agent({ keepAlive: true, maxSockets: 32 })
let gateway: Gateway

beforeAll(async () => {
  const { url } = await Effect.runPromise(Scope.provide(start(), scope))
  gateway = await startGateway(
    { url, keys: null },
    {
      CHORUS_HTTP_BODY_LIMIT: `${BODY_LIMIT}`,
      CHORUS_HTTP_STRICT: "1",
    },
  )
})
afterAll(async () => {
  agent.destroy()
  await gateway?.[Symbol.asyncDispose]()
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

interface Malformed {
  readonly method?: string
  readonly path: string
  readonly headers?: Record<string, string>
  readonly body: Uint8Array | string
}

interface Answer {
  readonly status: number
  readonly body: string
}

const send = ({ method = "POST", path, headers, body }: Malformed): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(gateway.url)
    const options = { hostname, port, agent, method, path, headers: { "content-type": "application/json", ...headers } }
    const sent = httpRequest(options, (response) => {
      let text = ""
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk
      })
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: text }))
    })
    sent.on("error", reject).end(body)
  })

const expectRefusal = ({ status, body }: Answer): void => {
  expect(status).toBeGreaterThanOrEqual(400)
  expect(status).toBeLessThan(500)
  const { error } = JSON.parse(body)
  expect(error).toMatchObject({ message: expect.any(String), type: expect.any(String), code: expect.any(String) })
  expect(Object.keys(error).sort()).toEqual(["code", "message", "param", "type"])
  expect(body.length).toBeLessThan(2_000)
}

/** Sends them 32 at a time. */
const refused = (arbitrary: fc.Arbitrary<Malformed>, runs: number) =>
  fc.assert(
    fc.asyncProperty(fc.array(arbitrary, { minLength: 32, maxLength: 32, size: "max" }), async (batch) => {
      for (const answer of await Promise.all(batch.map(send))) expectRefusal(answer)
    }),
    { numRuns: Math.ceil(runs / 32), endOnFailure: true },
  )

const CHAT = "/v1/chat/completions"
const COMPLETIONS = "/v1/completions"
const VALID: Record<string, Record<string, unknown>> = {
  [CHAT]: { model: "m", messages: [{ role: "user", content: "x" }] },
  [COMPLETIONS]: { model: "m", prompt: "x" },
}
const path = fc.constantFrom(CHAT, COMPLETIONS)

const number = fc.double()
const text = fc.string()
const object = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 }), { minKeys: 1 })
const list = fc.array(fc.jsonValue({ maxDepth: 2 }), { minLength: 1 })
const notNumber = fc.oneof(text, fc.boolean(), object, list)
const notBoolean = fc.oneof(text, number, object, list)
const outside = (minimum: number, maximum: number) =>
  fc.oneof(
    fc.double({ max: minimum, maxExcluded: true, noNaN: true, noDefaultInfinity: true }),
    fc.double({ min: maximum, minExcluded: true, noNaN: true, noDefaultInfinity: true }),
  )
const fraction = fc.double({ min: 1.01, max: 1.99, noNaN: true })

/** Values that a field must not have. What JSON has no word for becomes null, which is as good as left out, so it is not here. */
const WRONG: Record<string, fc.Arbitrary<unknown>> = {
  model: fc.oneof(fc.constant(""), fc.constant("m".repeat(300)), fc.boolean(), object, fc.integer()),
  temperature: fc.oneof(notNumber, outside(0, 2)),
  top_p: fc.oneof(notNumber, outside(0, 1)),
  min_p: fc.oneof(notNumber, outside(0, 1)),
  top_k: fc.oneof(notNumber, fraction, outside(-1, 2 ** 31)),
  repetition_penalty: fc.oneof(notNumber, outside(0.01, 100)),
  repeat_penalty: fc.oneof(notNumber, outside(0.01, 100)),
  min_tokens: fc.oneof(notNumber, fraction, outside(0, 2 ** 31)),
  ignore_eos: notBoolean,
  max_tokens: fc.oneof(notNumber, fraction, outside(0, 2 ** 31)),
  n: fc.oneof(notNumber, fraction, outside(1, 16)),
  seed: fc.oneof(notNumber, fraction, outside(-(2 ** 63), 2 ** 64)),
  stream: notBoolean,
  stream_options: fc.oneof(text, fc.integer(), list, fc.constant({ include_usage: 1 })),
  stop: fc.oneof(
    fc.integer(),
    object,
    fc.constant([""]),
    fc.constant(""),
    fc.array(fc.constant("x"), { minLength: 17, maxLength: 40 }),
  ),
  frequency_penalty: fc.oneof(notNumber, outside(-2, 2)),
  presence_penalty: fc.oneof(notNumber, outside(-2, 2)),
  logit_bias: fc.oneof(fc.integer(), object, list, text, fc.constant({ 5: 101 })),
  guided_json: fc.oneof(object, list, text),
  options: fc.oneof(object, list, text),
}

const wrongValue = fc
  .tuple(path, fc.constantFrom(...Object.keys(WRONG)))
  .chain(([path, field]) =>
    (WRONG[field] ?? text).map((value) => ({ path, body: JSON.stringify({ ...VALID[path], [field]: value }) })),
  )

const message = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }).filter((value) => typeof value !== "object" || value === null || !("role" in value)),
  fc.record({ role: fc.constantFrom("tool", "function", "", "USER"), content: text }),
  fc.record({
    role: fc.constant("user"),
    content: fc.oneof(fc.integer(), object, fc.constant([{ type: "image_url" }])),
  }),
  fc.record({ role: fc.constant("user"), content: text, tool_calls: list }),
)
const wrongMessages = fc
  .oneof(fc.array(message, { minLength: 1 }), fc.constant([]), text, object)
  .map((messages) => ({ path: CHAT, body: JSON.stringify({ model: "m", messages }) }))

const wrongPrompt = fc
  .oneof(
    fc.constantFrom([], [[]], [""].concat(Array(64).fill("x"))),
    fc.array(fc.oneof(fc.integer({ max: -1 }), fraction), { minLength: 1 }),
    fc.array(fc.oneof(fc.boolean(), object), { minLength: 1 }),
    fc.tuple(text, fc.integer()),
    fc.boolean(),
    object,
  )
  .map((prompt) => ({ path: COMPLETIONS, body: JSON.stringify({ model: "m", prompt }) }))

const unknownField = fc
  .tuple(
    path,
    fc.oneof(fc.string(), fc.constantFrom("__proto__", "constructor", "toString", "x".repeat(5_000))),
    fc.jsonValue(),
  )
  .filter(([path, name]) => !(name in (WRONG as object)) && !Object.hasOwn(VALID[path] ?? {}, name))
  .filter(([, name]) => !KNOWN.has(name))
  .map(([path, name, value]) => {
    const rest = JSON.stringify(VALID[path]).slice(1)
    return { path, body: `{${JSON.stringify(name)}:${JSON.stringify(value)},${rest}` }
  })
const KNOWN = new Set([
  "metadata",
  "prompt",
  "messages",
  "logprobs",
  "echo",
  "suffix",
  "best_of",
  "tools",
  "store",
  "functions",
])

const isJsonObject = (body: string | Uint8Array): boolean => {
  try {
    const value: unknown = JSON.parse(
      typeof body === "string" ? body : new TextDecoder("utf-8", { fatal: true }).decode(body),
    )
    return typeof value === "object" && value !== null
  } catch {
    return false
  }
}

const brokenJson = fc
  .tuple(
    path,
    fc.oneof(
      fc.string({ unit: "binary" }),
      fc.uint8Array({ maxLength: 4_000 }),
      fc.jsonValue().map((value) => JSON.stringify(value)),
      fc.nat(60).map((length) => JSON.stringify(VALID[CHAT]).slice(0, length)),
      fc.nat(BODY_LIMIT - 10).map((depth) => "[".repeat(depth)),
      fc.nat(BODY_LIMIT / 2 - 10).map((depth) => "[".repeat(depth) + "]".repeat(depth)),
      fc.nat(9_000).map((depth) => '{"model":'.repeat(depth % 7_000)),
      fc.constant(Buffer.from(JSON.stringify(VALID[CHAT]), "utf16le")),
      fc.constant(Buffer.concat([Buffer.from('{"model":"'), Buffer.from([0xc3, 0x28, 0xff]), Buffer.from('"}')])),
    ),
  )
  .filter(([, body]) => !isJsonObject(body) || body[0] === "[" || body[0] === 0x5b)
  .map(([path, body]) => ({ path, body }))

const deepField = fc
  .tuple(
    path,
    fc.constantFrom("stop", "model", "messages", "prompt", "temperature", "options", "metadata", "zzz"),
    fc.integer({ min: 10, max: 30_000 }),
  )
  .map(([path, field, depth]) => {
    const { [field]: _, ...rest } = VALID[path] ?? {}
    return { path, body: `{"${field}":${"[".repeat(depth)}${"]".repeat(depth)},${JSON.stringify(rest).slice(1)}` }
  })

const wrongForm = fc.oneof(
  fc
    .tuple(
      path,
      fc.constantFrom(
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "",
      ),
    )
    .map(([path, type]) => ({ path, headers: { "content-type": type }, body: JSON.stringify(VALID[path]) })),
  fc.tuple(path, fc.constantFrom("gzip", "br", "deflate", "x")).map(([path, encoding]) => ({
    ...{ path, headers: { "content-encoding": encoding }, body: JSON.stringify(VALID[path]) },
  })),
  fc.tuple(path, fc.integer({ min: 1, max: 200_000 }), fc.boolean()).map(([path, more, chunked]) => ({
    ...{ path, body: JSON.stringify({ ...VALID[path], user: "u".repeat(BODY_LIMIT + more) }) },
    headers: chunked ? { "transfer-encoding": "chunked" } : {},
  })),
  fc
    .tuple(fc.constantFrom("PUT", "DELETE", "PATCH", "GET"), path)
    .map(([method, path]) => ({ method, path, body: "" })),
  fc.webPath().map((path) => ({ path: `/v2${path}`, body: "{}" })),
  fc
    .tuple(
      path,
      fc.string({ minLength: 1, maxLength: 40 }).filter((name) => /\S/.test(name)),
    )
    .map(([path, model]) => ({
      ...{ path, body: JSON.stringify({ ...VALID[path], model }) }, // whatever it is called, it is not served
    })),
)

const PACKERS = { gzip: gzipSync, deflate: deflateSync, br: brotliCompressSync, zstd: zstdCompressSync } as const

test.each(Object.entries(PACKERS))(
  "a body in %s is read, and refused as soon as it unpacks to too much",
  async (encoding, pack) => {
    const headers = { "content-encoding": encoding }
    const unserved = JSON.stringify({ ...VALID[COMPLETIONS], model: "nobody" })
    const read = await send({ path: COMPLETIONS, headers, body: pack(unserved) })
    expect([read.status, JSON.parse(read.body).error.code]).toEqual([404, "model_not_found"])
    const bomb = pack(Buffer.alloc(64 * 2 ** 20))
    const small = bomb.subarray(0, Math.min(bomb.length, BODY_LIMIT - 1)) // cut off, it still is a bomb
    const before = bytesOfMemory()
    const answers = await Promise.all(
      Array.from({ length: 32 }, () => send({ path: COMPLETIONS, headers, body: small })),
    )
    for (const { status, body } of answers)
      expect([status, JSON.parse(body).error.code]).toEqual([413, "body_too_large"])
    expect(bytesOfMemory() - before).toBeLessThan(200 * 2 ** 20) // and not 2 GiB
    const cut = await send({ path: COMPLETIONS, headers, body: pack(unserved).subarray(0, -8) })
    expect([cut.status, JSON.parse(cut.body).error.code]).toEqual([400, "invalid_json"])
  },
)

const bytesOfMemory = (): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${gateway.pid}/status`, "utf8"))?.[1]) * 1024

test("5,000 malformed requests each get a typed refusal, and memory stays level", async () => {
  const all = fc.oneof(wrongValue, wrongMessages, wrongPrompt, unknownField, brokenJson, deepField, wrongForm)
  await refused(all, 1_500) // what a process takes for good, it has taken by now
  const before = bytesOfMemory()
  await refused(all, 3_500)
  expect(bytesOfMemory() - before).toBeLessThan(100 * 2 ** 20)
  expect((await fetch(`${gateway.url}/healthz`)).status).toBe(200)
  expect(gateway.child.exitCode).toBeNull()
  expect(gateway.said()).toBe("")
})

/** Sends bytes and says no more; gives all that comes back. */
const sendBytes = (bytes: Uint8Array): Promise<string> =>
  new Promise((resolve) => {
    const { hostname, port } = new URL(gateway.url)
    let text = ""
    const socket = connect(Number(port), hostname, () => socket.end(bytes))
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk
    })
    socket.on("error", () => resolve(text)).on("close", () => resolve(text))
  })

test("what is no HTTP at all is refused in the same form", async () => {
  const start = fc.constantFrom("", "POST /v1/completions HTTP/1.1\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01")
  const bytes = fc.tuple(start, fc.uint8Array({ minLength: 1, maxLength: 500 }))
  await fc.assert(
    fc.asyncProperty(bytes, async ([start, rest]) => {
      const answer = await sendBytes(Buffer.concat([Buffer.from(start, "latin1"), rest]))
      const [head = "", body = ""] = answer.split("\r\n\r\n")
      const status = Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1])
      expectRefusal({ status, body })
    }),
    { numRuns: 300 },
  )
  const long = await sendBytes(Buffer.from(`GET / HTTP/1.1\r\nx: ${"y".repeat(100_000)}\r\n\r\n`))
  expect(long).toMatch(/^HTTP\/1\.1 431 /)
  expect((await fetch(`${gateway.url}/healthz`)).status).toBe(200)
})

const ask = (path: string, init: RequestInit = {}) => fetch(`${gateway.url}${path}`, init)
const errorIn = async (response: Response) => JSON.parse(await response.text()).error

test("HEAD is GET without a body", async () => {
  for (const path of ["/v1/models", "/healthz", "/readyz", "/metrics", "/"]) {
    const [got, head] = [await ask(path), await ask(path, { method: "HEAD" })]
    expect([path, head.status, head.headers.get("content-type")]).toEqual([
      path,
      got.status,
      got.headers.get("content-type"),
    ])
    expect(await head.text()).toBe("")
    expect(await got.text()).not.toBe("")
  }
})

test.each([
  ["GET", CHAT, "POST"],
  ["DELETE", COMPLETIONS, "POST"],
  ["POST", "/v1/models", "GET, HEAD"],
  ["PUT", "/v1/models/demo?x=1", "GET, HEAD"],
  ["POST", "/healthz", "GET, HEAD"],
  ["OPTIONS", CHAT, "POST"],
])("%s %s is not allowed, and the answer says what is", async (method, path, allow) => {
  const response = await ask(path, { method })
  expect([response.status, response.headers.get("allow")]).toEqual([405, allow])
  expect(await errorIn(response)).toMatchObject({ code: "method_not_allowed", type: "invalid_request_error" })
})

test.each([
  ["/chat/completions", "/v1/chat/completions"],
  ["/completions?x=1", "/v1/completions"],
  ["/models", "/v1/models"],
  ["/v1/v1/chat/completions", "/v1/chat/completions"],
  ["/api/v1/completions", "/v1/completions"],
  ["/openai/deployments/demo/chat/completions", "/v1/chat/completions"],
])("POST %s is told that it means %s", async (path, meant) => {
  const response = await ask(path, { method: "POST" })
  const error = await errorIn(response)
  expect([response.status, error.code]).toEqual([404, "unknown_url"])
  expect(error.message).toContain(`There is ${meant}: the base URL of OpenAI's API ends in /v1 here`)
})

test("what is nowhere near is told what there is", async () => {
  const error = await errorIn(await ask("/api/generate", { method: "POST" }))
  expect(error.message).toMatch(/There are POST \/v1\/chat\/completions, .*\/version/)
})

test("probes by the names that other servers have, and the version", async () => {
  const [ready, health, v1] = await Promise.all(["/readyz", "/health", "/v1/health"].map((path) => ask(path)))
  expect([ready?.status, health?.status, v1?.status]).toEqual([503, 503, 503]) // nothing is served here
  expect(await health?.json()).toEqual(await ready?.json())
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
  expect(await (await ask("/version")).json()).toEqual({ version })
})

test("each answer names its request: as it was given, where that can be a name, or else anew", async () => {
  const idOf = async (given: string | null, path = "/v1/models") =>
    (await ask(path, given === null ? {} : { headers: { "x-request-id": given } })).headers.get("x-request-id")
  for (const given of ["a-1", "x".repeat(128), "b/2;c=u"]) expect(await idOf(given)).toBe(given)
  expect(await idOf("mine", "/nowhere")).toBe("mine")
  const made = await Promise.all([null, "two words", "y".repeat(129), ""].map((given) => idOf(given)))
  for (const id of made) expect(id).toMatch(/^req_[0-9a-f]{32}$/)
  expect(new Set(made).size).toBe(made.length)
  expect(await sendBytes(Buffer.from("GET / HTTP/9.9\r\n\r\n"))).toMatch(/^x-request-id: req_/m)
})

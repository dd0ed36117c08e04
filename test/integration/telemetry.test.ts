// A trace leads from an HTTP request to the pass on each rank: a real collector, that is an HTTP server which keeps what it
// gets by OTLP, and a real cluster that is told of it by the usual variable.
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { afterAll, beforeAll, expect, test } from "vitest"
import { Cluster } from "./cluster.ts"
import { PROMPT } from "./requests.ts"

interface Span {
  readonly service: string
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly attributes: ReadonlyArray<{ readonly key: string; readonly value: Record<string, unknown> }>
}

const spans: Array<Span> = []
const listeners = new Set<() => void>()
const paths = new Set<string>()

const collector: Server = createServer((request, response) => {
  let text = ""
  request.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk
  })
  request.on("end", () => {
    paths.add(request.url ?? "")
    for (const { resource, scopeSpans } of JSON.parse(text).resourceSpans) {
      const name = resource.attributes.find(({ key }: { key: string }) => key === "service.name")
      for (const scope of scopeSpans)
        spans.push(...scope.spans.map((span: Span) => ({ ...span, service: name.value.stringValue })))
    }
    response.setHeader("content-type", "application/json").end("{}")
    for (const listener of listeners) listener()
  })
})

/** Resolves when the collector has what `found` looks for. */
const collected = <A>(found: () => A | undefined): Promise<A> =>
  new Promise((resolve) => {
    const look = () => {
      const value = found()
      if (value === undefined) return
      listeners.delete(look)
      resolve(value)
    }
    listeners.add(look)
    look()
  })

let cluster: Cluster
beforeAll(async () => {
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve))
  const { port } = collector.address() as AddressInfo
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = `http://127.0.0.1:${port}`
  process.env.OTEL_BSP_SCHEDULE_DELAY = "100"
  cluster = await Cluster.start({ name: "demo", draftRanks: 2, gateway: { CHORUS_HTTP_PORT: "0" } })
})
afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]()
  await new Promise((resolve) => collector.close(resolve))
})

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
const GATEWAY = "chorus-gateway POST /v1/completions"
const CALLER = "00f067aa0ba902b7"

const attribute = ({ attributes }: Span, name: string): unknown =>
  Object.values(attributes.find(({ key }) => key === name)?.value ?? {})[0]

test("one trace from the caller's span through gateway, supervisor and activities to the ranks' passes", async () => {
  const answer = await fetch(`${cluster.local.http}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", traceparent: `00-${TRACE}-${CALLER}-01` },
    body: JSON.stringify({ model: "demo", prompt: PROMPT, max_tokens: 12, temperature: 0 }),
  })
  expect(answer.status).toBe(200)

  const ofTrace = () => spans.filter(({ traceId }) => traceId === TRACE)
  const named = (service: string, name: string | RegExp) =>
    ofTrace().filter((span) => span.service === service && span.name.search(name) === 0)
  const request = await collected(() => named("chorus-gateway", /POST \/v1\/completions$/)[0])
  const session = await collected(() => named("chorus-supervisor", /session$/)[0])
  expect(request.parentSpanId).toBe(CALLER)
  expect(attribute(session, "deployment")).toBe("demo")

  const pathOf = (span: Span): ReadonlyArray<string> => {
    const parent = ofTrace().find(({ spanId }) => spanId === span.parentSpanId)
    return [...(parent === undefined ? [] : pathOf(parent)), `${span.service} ${span.name}`]
  }
  for (const [activity, pass] of [
    ["prefill/base", "Prefill"],
    ["prefill/draft", "Prefill"],
    ["decode", "Decode"],
  ]) {
    const path = await collected(() =>
      named("chorus-rank", `${pass}$`)
        .map(pathOf)
        .find((path) => path.at(-2)?.startsWith(`chorus-supervisor ${activity}`) && path[0] === GATEWAY),
    )
    expect(path).toContain("chorus-supervisor session")
    expect(path.at(-1)).toBe(`chorus-rank ${pass}`)
  }
  // Every rank of a group takes part.
  for (const [group, rank] of [
    ["base", 0],
    ["draft", 0],
    ["draft", 1],
  ]) {
    const isOf = (span: Span) => attribute(span, "group") === group && attribute(span, "rank") === rank
    await collected(() => named("chorus-rank", "Prefill$").find(isOf))
  }
  expect([...paths]).toEqual(["/v1/traces"])
})

test("what only looks whether the gateway is alive leaves no span", async () => {
  await fetch(`${cluster.local.http}/healthz`)
  const before = await fetch(`${cluster.local.http}/v1/models`)
  expect(before.status).toBe(200)
  await collected(() => spans.find(({ name }) => name === "GET /v1/models"))
  expect(spans.filter(({ name }) => /healthz|readyz|metrics/.test(name))).toEqual([])
})

// The proxy of a chaos run on real sockets: what it carries arrives in order, whatever it does to it.
import { once } from "node:events"
import { connect, createServer, type Server, type Socket } from "node:net"
import { Effect, Exit, Scope } from "effect"
import { afterEach, beforeEach, expect, test } from "vitest"
import { CLEAR, proxyTo, type TcpProxy } from "../../../src/chaos/proxy.ts"

let scope: Scope.Closeable
let echo: Server
let proxy: TcpProxy
let client: Socket
let heard: string

beforeEach(async () => {
  scope = Scope.makeUnsafe()
  echo = createServer((socket) => socket.on("error", () => {}).pipe(socket))
  await once(echo.listen(0, "127.0.0.1"), "listening")
  const address = echo.address()
  if (typeof address !== "object" || address === null) throw new Error("the echo has no port")
  proxy = await Effect.runPromise(Scope.provide(proxyTo(address.port), scope))
  client = connect(proxy.port, "127.0.0.1").on("error", () => {})
  heard = ""
  client.setEncoding("utf8").on("data", (text: string) => {
    heard += text
  })
  await once(client, "connect")
})
afterEach(async () => {
  client.destroy()
  await Effect.runPromise(Scope.close(scope, Exit.void))
  await once(echo.close(), "close")
})

const until = (text: string) => expect.poll(() => heard).toBe(text)

test("knows a NATS client by what it says of itself", async () => {
  client.write('CONNECT {"name":"demo.base.0","lang":"x"}\r\nPING\r\n')
  await expect.poll(() => proxy.names()).toEqual(["demo.base.0"])
})

test("carries what comes, in order, also while it slows down and speeds up", async () => {
  const lines = Array.from({ length: 60 }, (_, i) => `line ${i}\n`)
  for (const [i, line] of lines.entries()) {
    if (i % 20 === 5) proxy.set({ _tag: "Delay", millis: 30 }, null)
    if (i % 20 === 10) proxy.set({ _tag: "Throttle", bytesPerSecond: 4_000 }, null)
    if (i % 20 === 15) proxy.set(CLEAR, null)
    client.write(line)
    await new Promise((next) => setImmediate(next))
  }
  await until(lines.join(""))
})

test("a delay is of both ways", async () => {
  proxy.set({ _tag: "Delay", millis: 60 }, null)
  const began = performance.now()
  client.write("x")
  await until("x")
  expect(performance.now() - began).toBeGreaterThanOrEqual(119)
})

test("what is swallowed never comes, and the connection is cut only when that is over", async () => {
  client.write("before ")
  await until("before ")
  const closed = once(client, "close")
  proxy.set({ _tag: "Swallow" }, null)
  client.write("lost")
  const late = connect(proxy.port, "127.0.0.1").on("error", () => {})
  await once(late, "connect") // it is taken, and hears nothing
  expect(proxy.names()).toHaveLength(2)
  proxy.set(CLEAR, null)
  await closed
  await once(late, "close")
  expect(heard).toBe("before ")
})

test("a cut is of those with the name alone", async () => {
  client.write('CONNECT {"name":"one"}\r\n')
  await expect.poll(() => proxy.names()).toEqual(["one"])
  proxy.cut("other")
  client.write("x")
  await until('CONNECT {"name":"one"}\r\nx')
  const closed = once(client, "close")
  proxy.cut("one")
  await closed
  expect(proxy.names()).toEqual([])
})

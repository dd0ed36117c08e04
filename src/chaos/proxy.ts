// A TCP proxy between actors and a NATS server, whose connections can be slowed, cut, or left standing with nothing coming
// through. It reads one thing of what it carries: the name that a NATS client gives in its first line.
import { once } from "node:events"
import { connect, createServer, type Socket } from "node:net"
import { Effect } from "effect"

/** What becomes of the bytes that arrive now. */
export type Condition =
  | { readonly _tag: "Clear" }
  | { readonly _tag: "Delay"; readonly millis: number }
  | { readonly _tag: "Throttle"; readonly bytesPerSecond: number }
  | { readonly _tag: "Swallow" }

export const CLEAR: Condition = { _tag: "Clear" }

/** A proxied connection. */
interface Line {
  readonly name: () => string // of the NATS client; empty until it has said it
  readonly set: (condition: Condition) => void
  readonly cut: () => void
}

export interface TcpProxy {
  readonly port: number
  /** Names of the connections that stand. */
  readonly names: () => ReadonlyArray<string>
  /** Of those with this name, or of all that stand and come where it is null. Afterwards what was swallowed is cut. */
  readonly set: (condition: Condition, name: string | null) => void
  readonly cut: (name: string | null) => void
}

/** Listens on a free port of this machine until the scope closes. */
export const proxyTo = Effect.fnUntraced(function* (port: number) {
  const lines = new Set<Line>()
  const named = (name: string | null) => [...lines].filter((line) => name === null || line.name() === name)
  let general: Condition = CLEAR // of those that come
  const server = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const server = createServer((client) => {
        const line = lineOf(client, connect(port, "127.0.0.1"), () => lines.delete(line))
        line.set(general)
        lines.add(line)
      })
      await once(server.listen(0, "127.0.0.1"), "listening")
      return server
    }),
    (server) =>
      Effect.promise(async () => {
        for (const line of lines) line.cut()
        await once(server.close(), "close")
      }),
  )
  const address = server.address()
  const proxy: TcpProxy = {
    port: typeof address === "object" && address !== null ? address.port : 0,
    names: () => [...lines].map((line) => line.name()),
    set: (condition, name) => {
      if (name === null) general = condition
      for (const line of named(name)) line.set(condition)
    },
    cut: (name) => {
      for (const line of named(name)) line.cut()
    },
  }
  return proxy
})

const NAME = /"name":"([^"]*)"/

/** CONNECT stands within the first bytes. */
const NAMED_WITHIN_BYTES = 4_096

const lineOf = (client: Socket, server: Socket, gone: () => void): Line => {
  let first = ""
  let swallowed = false
  const out = new Way(client, server)
  const back = new Way(server, client)
  client.on("data", (bytes) => {
    if (first.length < NAMED_WITHIN_BYTES) first += bytes.toString("latin1")
  })
  const cut = (): void => {
    client.destroy()
    server.destroy()
    gone()
  }
  for (const socket of [client, server]) {
    socket.setNoDelay(true)
    socket.on("error", () => {})
    // A path that swallows swallows the end of a connection as well.
    socket.on("close", () => (swallowed ? undefined : cut()))
  }
  return {
    name: () => NAME.exec(first)?.[1] ?? "",
    set: (condition) => {
      if (swallowed && condition._tag !== "Swallow") return cut() // what is missing cannot be made good
      swallowed = condition._tag === "Swallow"
      out.condition = condition
      back.condition = condition
    },
    cut,
  }
}

/** A sender is not read any more while this much of it waits. */
const MOST_WAITING_BYTES = 1 << 20

/** One direction: bytes come out in order, each when its time has come. */
class Way {
  condition: Condition = CLEAR
  readonly #from: Socket
  readonly #to: Socket
  readonly #waiting: Array<{ readonly due: number; readonly bytes: Buffer }> = []
  #bytes = 0
  #due = 0 // of what came last
  #timer: NodeJS.Timeout | undefined

  constructor(from: Socket, to: Socket) {
    this.#from = from
    this.#to = to
    from.on("data", (bytes) => this.#take(bytes))
    from.on("close", () => clearTimeout(this.#timer))
    to.on("drain", () => this.#breathe())
  }

  #take(bytes: Buffer): void {
    if (this.condition._tag === "Swallow") return
    this.#due = Math.max(this.#due, performance.now()) + this.#millisOf(bytes)
    this.#waiting.push({ due: this.#due, bytes })
    this.#bytes += bytes.byteLength
    this.#pass()
    this.#breathe()
  }

  #millisOf({ byteLength }: Buffer): number {
    const { condition } = this
    if (condition._tag === "Throttle") return (byteLength / condition.bytesPerSecond) * 1_000
    if (condition._tag !== "Delay") return 0
    return Math.max(0, performance.now() + condition.millis - Math.max(this.#due, performance.now()))
  }

  #pass(): void {
    clearTimeout(this.#timer)
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const left = next.due - performance.now()
      if (left > 0) {
        this.#timer = setTimeout(() => this.#pass(), left)
        break
      }
      this.#waiting.shift()
      this.#bytes -= next.bytes.byteLength
      if (!this.#to.destroyed) this.#to.write(next.bytes)
    }
    this.#breathe()
  }

  #breathe(): void {
    const full = this.#bytes > MOST_WAITING_BYTES || this.#to.writableNeedDrain
    if (full) this.#from.pause()
    else this.#from.resume()
  }
}

// A wire between one client and the gateway. It hands on every byte as it is, and sees what a client's answers
// do not show: what fills the silences of a stream, and which session it is.
import { once } from "node:events"
import { createServer, connect as dial, type Server, type Socket } from "node:net"

/** A chunk of HTTP that is a comment, or a blank in front of the next event's JSON. */
const FILLER = /\r\n(?::.*\n|(?:data: )? )(?=\r\n)/g

export class Relay implements AsyncDisposable {
  readonly url: string
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #listeners = new Set<() => void>()
  readonly #said = new Map<Socket, string>() // by the gateway, over each connection

  static async open(gateway: string): Promise<Relay> {
    const { hostname, port } = new URL(gateway)
    const server = createServer({ allowHalfOpen: true })
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    const address = server.address()
    if (address === null || typeof address === "string") throw new TypeError("it listens on no port")
    return new Relay(server, `http://127.0.0.1:${address.port}`, { host: hostname, port: Number(port) })
  }

  private constructor(server: Server, url: string, gateway: { readonly host: string; readonly port: number }) {
    this.url = url
    this.#server = server
    server.on("connection", (client) => this.#join(client, dial({ ...gateway, allowHalfOpen: true })))
  }

  /** Forgets what has gone through. */
  forget(): void {
    this.#said.clear()
  }

  /** Of the chat that was streamed since. */
  get session(): string | null {
    const [session] = [...this.#said.values()].flatMap(
      (said) => /"id":"chatcmpl-([0-9a-f-]{36})"/.exec(said)?.[1] ?? [],
    )
    return session ?? null
  }

  /** Resolves when a stream has been silent for so long that the gateway has filled it so often. */
  silent(times: number): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if ([...this.#said.values()].every((said) => (said.match(FILLER)?.length ?? 0) < times)) return
        this.#listeners.delete(look)
        resolve()
      }
      this.#listeners.add(look)
    })
  }

  #join(client: Socket, gateway: Socket): void {
    gateway.on("data", (bytes) => {
      this.#said.set(gateway, `${this.#said.get(gateway) ?? ""}${bytes.toString("latin1")}`)
      for (const listener of this.#listeners) listener()
    })
    for (const [from, to] of [
      [client, gateway],
      [gateway, client],
    ] as const) {
      this.#sockets.add(from)
      from.pipe(to)
      from.on("error", () => to.destroy())
      from.on("close", () => {
        this.#sockets.delete(from)
        to.destroySoon()
      })
    }
  }

  async [Symbol.asyncDispose]() {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, "close")
  }
}

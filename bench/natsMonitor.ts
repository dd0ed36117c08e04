// A nats-server whose monitoring port says what passed through it, and which clients are connected and subscribed.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import { start } from "../src/natsServer/natsServer.ts"

const CONFIG = join(import.meta.dirname, "../nats.conf")

const Traffic = Schema.Struct({
  in_msgs: Schema.Finite,
  out_msgs: Schema.Finite,
  in_bytes: Schema.Finite,
  out_bytes: Schema.Finite,
  subscriptions: Schema.Finite,
  connections: Schema.Finite,
})
export type Traffic = typeof Traffic.Type

export interface MonitoredServer {
  readonly url: string
  readonly pid: number
  /** What has passed so far, and what is connected now. */
  readonly traffic: () => Promise<Traffic>
}

/** Runs until the scope closes. */
export const monitoredServer = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "chorus-monitored-"))),
    (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true })),
  )
  const port = yield* Effect.promise(freePort)
  const config = join(folder, "nats.conf")
  yield* Effect.promise(async () => writeFile(config, `${await readFile(CONFIG, "utf8")}\nhttp: "127.0.0.1:${port}"\n`))
  const { url, pid } = yield* start({ config })
  const traffic = async () => {
    const answer: unknown = await (await fetch(`http://127.0.0.1:${port}/varz`)).json()
    return Schema.decodeUnknownSync(Traffic)(answer)
  }
  const server: MonitoredServer = { url, pid, traffic }
  return server
})

/** A free port of this machine. */
export const freePort = () =>
  new Promise<number>((resolve, reject) => {
    const probe = createServer()
    probe.once("error", reject)
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

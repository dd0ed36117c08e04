// Registration with the NATS services protocol, by which `nats micro ls` and `chorus ps` find actors.
import { Svcm } from "@nats-io/services"
import { Effect } from "effect"
import { Nats } from "./nats.ts"
import type { Carrying } from "./telemetry.ts"

const VERSION = "0.1.0"

export interface ServiceEntry {
  readonly name: string
  readonly description: string
  readonly metadata: Readonly<Record<string, string>>
  readonly endpoint: string
  readonly subject: string // of the endpoint
  readonly queue: string // of those that share the work; empty where each actor answers for itself
  readonly answer: (message: Uint8Array, headers: Carrying | undefined) => Uint8Array | Promise<Uint8Array>
}

/** Registers until the scope closes. */
export const register = Effect.fnUntraced(function* (entry: ServiceEntry) {
  const { connection } = yield* Nats
  const manager = yield* services
  const { name, description, metadata } = entry
  const service = yield* Effect.acquireRelease(
    Effect.promise(() => manager.add({ name, description, version: VERSION, metadata: { ...metadata } })),
    (service) => Effect.ignore(Effect.tryPromise(() => service.stop())),
  )
  service.addEndpoint(entry.endpoint, {
    subject: entry.subject,
    queue: entry.queue,
    handler: async (error, message) => {
      if (error === null) message.respond(await entry.answer(message.data, message.headers))
    },
  })
  yield* Effect.promise(() => connection.flush()) // who is told of it from now on finds it
})

/** The services protocol over this process's connection. */
export const services = Effect.map(Nats, ({ connection }) => {
  // Its package brings an older nats-core of its own, whose types differ from those of the one in use; what runs is the same.
  const sameAtRunTime: unknown = connection
  return new Svcm(sameAtRunTime as ConstructorParameters<typeof Svcm>[0])
})

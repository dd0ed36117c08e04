// Entries in the NATS services protocol.
import { type Endpoint, Svcm } from "@nats-io/services"
import type { NatsConnection, SubscriptionOptions } from "@nats-io/transport-node"
import { Effect } from "effect"
import { isInbox } from "../wire/subjects.ts"
import type { ServiceEntry } from "./bus.ts"
import { VERSION } from "./version.ts"

/** Registers until the scope closes. */
export const registerAt = Effect.fnUntraced(function* (connection: NatsConnection, entry: ServiceEntry) {
  const { name, description, metadata, endpointMetadata = {} } = entry
  const runFork = Effect.runForkWith(yield* Effect.context())
  const counters = new Counters()
  const service = yield* Effect.acquireRelease(
    Effect.promise(() =>
      servicesOf(connection).add({
        ...{ name, description, version: VERSION, metadata: { ...metadata } },
        statsHandler: async (endpoint) => counters.writeTo(endpoint),
      }),
    ),
    (service) => Effect.ignore(Effect.tryPromise(() => service.stop())),
  )
  service.addEndpoint(entry.endpoint, {
    subject: entry.subject,
    queue: entry.queue,
    metadata: fitting(endpointMetadata, connection.info?.max_payload),
    handler: (error, message) => {
      if (error !== null) return
      const began = performance.now()
      const answered = Effect.map(entry.answer(message.data, message.headers, message.reply ?? ""), (reply) => {
        if (reply === null) return
        const { bytes, refused } = reply
        counters.count(performance.now() - began, refused?.reason)
        if (connection.isClosed()) return
        if (refused === undefined) message.respond(bytes)
        else message.respondError(refused.code, refused.reason, bytes)
      })
      runFork(answered)
    },
  })
  yield* Effect.promise(() => connection.flush()) // a process that is told of it from now on finds it
})

/** What is left of it where a message may not hold all of it: a question for the services must get an answer. */
const fitting = (metadata: Readonly<Record<string, string>>, limit = Number.POSITIVE_INFINITY) => {
  let left = limit / 2 // the rest is the service's own
  const kept = Object.entries(metadata).filter(([name, value]) => {
    const bytes = JSON.stringify({ [name]: value }).length
    if (bytes > left) return false
    left -= bytes
    return true
  })
  return Object.fromEntries(kept)
}

/** The package takes a request as done when its handler returns, which for a promise is at once; so times and errors are counted here. */
class Counters {
  #answered = 0
  #millis = 0
  #errors = 0
  #last = ""

  count(millis: number, error: string | undefined): void {
    this.#answered++
    this.#millis += millis
    if (error === undefined) return
    this.#errors++
    this.#last = error
  }

  /** Into an endpoint's statistics, before they are told. */
  writeTo(endpoint: Endpoint): unknown {
    if (!("stats" in endpoint) || typeof endpoint.stats !== "object" || endpoint.stats === null) return null
    const nanos = Math.round(this.#millis * 1e6)
    Object.assign(endpoint.stats, {
      num_errors: this.#errors,
      processing_time: nanos,
      average_processing_time: this.#answered === 0 ? 0 : Math.round(nanos / this.#answered),
      ...(this.#last === "" ? {} : { last_error: this.#last }),
    })
    return null
  }
}

/** The services protocol over a connection. */
const servicesOf = (connection: NatsConnection): Svcm => {
  // Its package brings an older nats-core of its own, whose types differ from those of the one in use; what runs is the same.
  const sameAtRunTime: unknown = toInboxesOnly(connection)
  return new Svcm(sameAtRunTime as ConstructorParameters<typeof Svcm>[0])
}

/**
 * The connection for code that answers every request, as the services protocol's package does: requests that want their
 * answer elsewhere than in an inbox are ignored, or their senders could have us write where only we may.
 */
const toInboxesOnly = (connection: NatsConnection): NatsConnection =>
  new Proxy(connection, {
    get: (target, name) => {
      if (name === "subscribe") {
        return (subject: string, { callback, ...options }: SubscriptionOptions = {}) =>
          target.subscribe(subject, {
            ...options,
            callback: (error, message) => {
              if (error !== null || isInbox(message.reply ?? "")) callback?.(error, message)
            },
          })
      }
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === "function" ? value.bind(target) : value
    },
  })

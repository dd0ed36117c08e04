// What a connection to NATS does by itself and what it does not: it dials again, and loses what was published meanwhile
// without a word (see ARCHITECTURE.md). So a question is asked again when the connection is back, and what has to arrive is
// published until the server has it. For code that holds a connection: the client, and the layers of the bus and the storage.
import { type NatsConnection, PermissionViolationError, RequestError } from "@nats-io/transport-node"
import { MalformedMessage, StorageRefused } from "../wire/errors.ts"

type Event = "disconnect" | "reconnect" | "close"

const watched = new WeakMap<NatsConnection, Set<(event: Event) => void>>()

/** Calls with what becomes of a connection, until the function that it gives is called. One watch of each connection, for all. */
export const onEvent = (connection: NatsConnection, heard: (event: Event) => void): (() => void) => {
  const listeners = watched.get(connection) ?? watch(connection)
  listeners.add(heard)
  return () => listeners.delete(heard)
}

const watch = (connection: NatsConnection): Set<(event: Event) => void> => {
  const listeners = new Set<(event: Event) => void>()
  watched.set(connection, listeners)
  const hear = async (): Promise<void> => {
    for await (const { type } of connection.status()) {
      if (type === "disconnect" || type === "reconnect" || type === "close") for (const heard of listeners) heard(type)
    }
  }
  void hear()
  return listeners
}

/** What a question's answer is, or a rejection as soon as the connection is back from a loss: then no answer will come. */
export const answered = async <A>(connection: NatsConnection, answer: Promise<A>): Promise<A> => {
  let unwatch = (): void => {}
  const lost = new Promise<never>((_, reject) => {
    unwatch = onEvent(connection, (event) => {
      if (event !== "disconnect") reject(new Error("the connection was lost while an answer was waited for"))
    })
  })
  try {
    return await Promise.race([answer, lost])
  } finally {
    unwatch()
  }
}

/** How long a question is asked again, and the time between: a supervisor may have to be started first. */
const PATIENCE_MILLIS = 60_000

/** A storage that refuses goes on refusing until an operator acts, so it is asked less often. */
const REFUSED_MILLIS = 10_000
const ATTEMPT_AGAIN_MILLIS = 100

/** Asks again where the connection was lost meanwhile, or the responder is not back yet. */
export const untilAnswered = async <A>(connection: NatsConnection, ask: () => Promise<A>): Promise<A> => {
  const began = performance.now()
  for (;;) {
    try {
      return await answered(connection, ask())
    } catch (error) {
      const patience = error instanceof StorageRefused ? REFUSED_MILLIS : PATIENCE_MILLIS
      const late = performance.now() - began > patience
      if (late || connection.isClosed() || error instanceof MalformedMessage || isForbidden(error)) throw error
      await new Promise((resolve) => setTimeout(resolve, ATTEMPT_AGAIN_MILLIS))
    }
  }
}

export const isForbidden = (error: unknown): boolean =>
  error instanceof RequestError && error.cause instanceof PermissionViolationError

/** Between two tries to say what a lost connection has swallowed. */
const AGAIN_MILLIS = 100

/** For messages that have no answer and must arrive: published until the server has them, since what is published while the connection is down is lost. */
export const insist = async (connection: NatsConnection, subject: string, message?: Uint8Array): Promise<void> => {
  while (!connection.isClosed()) {
    try {
      connection.publish(subject, message)
      return await connection.flush()
    } catch {
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MILLIS))
    }
  }
}

// A connection to a NATS server, or the reason why there is none: nothing listens there, it does not know our key, or we do
// not trust its certificate.
import {
  AuthorizationError,
  type ConnectionOptions,
  connect,
  createInbox,
  type NatsConnection,
} from "@nats-io/transport-node"
import { Schema } from "effect"
import { ENVIRONMENT } from "../wire/deployment.ts"
import { type Access, BadKey, showing } from "./access.ts"

export class NatsUnreachable extends Schema.TaggedError<NatsUnreachable>()("NatsUnreachable", {
  url: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `cannot reach NATS at ${this.url}: ${this.reason}. Is nats-server running there? \`chorus up\` starts one when no --nats is given.`
  }
}

/** The server is there and does not let us in. */
export class NatsRefused extends Schema.TaggedError<NatsRefused>()("NatsRefused", {
  url: Schema.String,
  key: Schema.NullOr(Schema.String), // path
}) {
  override get message() {
    if (this.key !== null) {
      return `NATS at ${this.url} does not know the key ${this.key}. Take the one that was made with the server's users.conf, or load that file into the server.`
    }
    return `NATS at ${this.url} asks for a key. Name the folder of keys that \`chorus keys\` has made for it: --keys FOLDER, or ${ENVIRONMENT.natsKeys}.`
  }
}

/** The server's certificate is not one that we trust, or not for its address. */
export class NatsUntrusted extends Schema.TaggedError<NatsUntrusted>()("NatsUntrusted", {
  url: Schema.String,
  reason: Schema.String,
  ca: Schema.NullOr(Schema.String), // path
}) {
  override get message() {
    const trusted = this.ca === null ? "none was given" : `it was checked against ${this.ca}`
    return `the certificate of NATS at ${this.url} is not trusted: ${this.reason}. The CA's certificate is ca.pem beside the keys, or ${ENVIRONMENT.natsCa} (${trusted}); \`chorus keys --server NAME\` makes one for an address.`
  }
}

export type DialError = NatsUnreachable | NatsRefused | NatsUntrusted | BadKey

export interface Dialling extends Omit<ConnectionOptions, "servers" | "authenticator" | "inboxPrefix" | "tls"> {
  readonly url: string
  readonly access: Access
}

const prefixes = new WeakMap<NatsConnection, string>()

/** A new subject for answers, which this connection may listen to. */
export const inboxOf = (connection: NatsConnection): string => createInbox(prefixes.get(connection))

/** Rejects with a DialError. */
export const dial = async ({ url, access, ...options }: Dialling): Promise<NatsConnection> => {
  try {
    const shown = showing(access)
    const connection = await connect({ servers: url.split(","), ...options, ...pacing(options), ...shown })
    if (shown.inboxPrefix !== undefined) prefixes.set(connection, shown.inboxPrefix)
    return connection
  } catch (error) {
    throw dialError(error, url, access)
  }
}

/**
 * Between two tries to reconnect the package waits by the wall clock: set back by an hour, it would not try for that hour. So
 * it is told not to wait, and the pause is a delay of the server that it tries next.
 */
const pacing = ({ reconnectTimeWait = 2_000, reconnectJitter = 100 }: ConnectionOptions): ConnectionOptions => ({
  reconnectDelayHandler: () => Number.NEGATIVE_INFINITY,
  reconnectToServer: ([next]) => {
    if (next === undefined || next.lastConnect === 0) return null // never tried yet: at once
    return { server: next, delay: reconnectTimeWait + Math.random() * reconnectJitter }
  },
})

const isDialError = Schema.is(Schema.Union([NatsUnreachable, NatsRefused, NatsUntrusted, BadKey]))

export const dialError = (error: unknown, url: string, { key, ca }: Access): DialError => {
  if (isDialError(error)) return error
  if (error instanceof AuthorizationError) return new NatsRefused({ url, key })
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const reason = cause instanceof Error ? cause.message : String(cause)
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : ""
  return /CERT|SELF_SIGNED|ERR_TLS|VERIFY/.test(code)
    ? new NatsUntrusted({ url, reason, ca })
    : new NatsUnreachable({ url, reason })
}

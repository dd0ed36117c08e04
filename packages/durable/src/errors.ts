/** No NATS server is reached there. */
export interface NatsUnreachable extends Error {
  readonly _tag: "NatsUnreachable"
  readonly url: string
  readonly reason: string
}

/** The server asks for a key, or does not know the one that was shown. */
export interface NatsRefused extends Error {
  readonly _tag: "NatsRefused"
  readonly url: string
  readonly key: string | null
}

/** The server's certificate is not trusted. */
export interface NatsUntrusted extends Error {
  readonly _tag: "NatsUntrusted"
  readonly url: string
  readonly reason: string
  readonly ca: string | null
}

/** A file that should hold a key does not. */
export interface BadKey extends Error {
  readonly _tag: "BadKey"
  readonly file: string
  readonly reason: string
}

/** An option that cannot be used, by its name. */
export interface InvalidOption extends Error {
  readonly _tag: "InvalidRequest"
  readonly field: string
  readonly reason: string
}

/** Why an engine does not start. */
export type EngineError = NatsUnreachable | NatsRefused | NatsUntrusted | BadKey | InvalidOption

// The errors that a caller may meet: classes for instanceof, with the data that their message is made of.
import { Schema } from "effect"
import { BadKey as BadKeyClass } from "../../../src/bus/access.ts"
import { NatsRefused as NatsRefusedClass, NatsUntrusted as NatsUntrustedClass } from "../../../src/bus/dial.ts"
import * as Own from "../../../src/client/errors.ts"
import * as Wire from "../../../src/wire/errors.ts"

/** What every error of a session has: its name, and a message that says what to do next. */
interface Tagged<Tag extends string> extends Error {
  readonly _tag: Tag
}

/** For `instanceof`; the package makes its errors itself. */
export type ErrorClass<E> = abstract new (...none: never) => E

/** A field of the request is missing, unknown or out of its range. */
export interface InvalidRequest extends Tagged<"InvalidRequest"> {
  readonly field: string
  readonly reason: string
}
export const InvalidRequest: ErrorClass<InvalidRequest> = Wire.InvalidRequest

/** Prompt and answer together are longer than the context. */
export interface ContextExceeded extends Tagged<"ContextExceeded"> {
  readonly prompt: number
  readonly maxTokens: number
  readonly context: number
}
export const ContextExceeded: ErrorClass<ContextExceeded> = Wire.ContextExceeded

/** More requests wait than may. */
export interface Overloaded extends Tagged<"Overloaded"> {
  readonly deployment: string
  readonly waiting: number
  readonly retryAfterMillis: number
}
export const Overloaded: ErrorClass<Overloaded> = Wire.Overloaded

/** The client that the request names has as many sessions as one may have. */
export interface ClientLimited extends Tagged<"ClientLimited"> {
  readonly client: string
  readonly limit: number
  readonly retryAfterMillis: number
}
export const ClientLimited: ErrorClass<ClientLimited> = Wire.ClientLimited

/** No supervisor of that deployment listens. */
export interface NotServed extends Tagged<"NotServed"> {
  readonly deployment: string
  readonly url: string
}
export const NotServed: ErrorClass<NotServed> = Own.NotServed

/** There is no deployment of that name. */
export interface UnknownDeployment extends Tagged<"UnknownDeployment"> {
  readonly deployment: string
}
export const UnknownDeployment: ErrorClass<UnknownDeployment> = Wire.UnknownDeployment

/** A request was heard and not answered in time. */
export interface NoAnswer extends Tagged<"NoAnswer"> {
  readonly deployment: string
  readonly millis: number
}
export const NoAnswer: ErrorClass<NoAnswer> = Own.NoAnswer

/** No machine has what the ranks of the deployment need. */
export interface NoPlacement extends Tagged<"NoPlacement"> {
  readonly deployment: string
  readonly reason: string
}
export const NoPlacement: ErrorClass<NoPlacement> = Wire.NoPlacement

/** The ranks of the deployment could not start. */
export interface ActivationFailed extends Tagged<"ActivationFailed"> {
  readonly deployment: string
  readonly reason: string
}
export const ActivationFailed: ErrorClass<ActivationFailed> = Wire.ActivationFailed

/** A session was accepted and came to nothing. */
export interface SessionFailed extends Tagged<"SessionFailed"> {
  readonly session: string
  readonly reason: string
}
export const SessionFailed: ErrorClass<SessionFailed> = Wire.SessionFailed

/** There is no such session, or none any more: logs are kept for an hour unless the deployment says otherwise. */
export interface SessionExpired extends Tagged<"SessionExpired"> {
  readonly session: string
}
export const SessionExpired: ErrorClass<SessionExpired> = Wire.SessionExpired

/** The server's storage does not take what has to be stored. */
export interface StorageRefused extends Tagged<"StorageRefused"> {
  readonly storage: string
  readonly reason: string
  readonly tooLarge: boolean
}
export const StorageRefused: ErrorClass<StorageRefused> = Wire.StorageRefused

/** There is no connection to a NATS server, or it went while a request was under way. */
export interface Disconnected extends Tagged<"Disconnected"> {
  readonly url: string
  readonly reason: string
}
export const Disconnected: ErrorClass<Disconnected> = Own.Disconnected

/** The NATS server asks for a key, or does not know the one that was shown. */
export interface NatsRefused extends Tagged<"NatsRefused"> {
  readonly url: string
  readonly key: string | null
}
export const NatsRefused: ErrorClass<NatsRefused> = NatsRefusedClass

/** The NATS server's certificate is not trusted. */
export interface NatsUntrusted extends Tagged<"NatsUntrusted"> {
  readonly url: string
  readonly reason: string
  readonly ca: string | null
}
export const NatsUntrusted: ErrorClass<NatsUntrusted> = NatsUntrustedClass

/** A file that should hold a key does not. */
export interface BadKey extends Tagged<"BadKey"> {
  readonly file: string
  readonly reason: string
}
export const BadKey: ErrorClass<BadKey> = BadKeyClass

/** What was received is not of this protocol: a newer server, or another program on its subjects. */
export interface MalformedMessage extends Tagged<"MalformedMessage"> {
  readonly kind: string
  readonly field: string
  readonly reason: string
}
export const MalformedMessage: ErrorClass<MalformedMessage> = Wire.MalformedMessage

/** All of them: `_tag` tells which, and an aborted signal's own reason comes beside them. */
export type ChorusError =
  | InvalidRequest
  | ContextExceeded
  | Overloaded
  | ClientLimited
  | NotServed
  | UnknownDeployment
  | NoAnswer
  | NoPlacement
  | ActivationFailed
  | SessionFailed
  | SessionExpired
  | StorageRefused
  | Disconnected
  | NatsRefused
  | NatsUntrusted
  | BadKey
  | MalformedMessage

const CLASSES: ReadonlyArray<ErrorClass<ChorusError>> = [
  InvalidRequest,
  ContextExceeded,
  Overloaded,
  ClientLimited,
  NotServed,
  UnknownDeployment,
  NoAnswer,
  NoPlacement,
  ActivationFailed,
  SessionFailed,
  SessionExpired,
  StorageRefused,
  Disconnected,
  NatsRefused,
  NatsUntrusted,
  BadKey,
  MalformedMessage,
]

/** Whether something that was caught is one of them. */
export const isChorusError = (error: unknown): error is ChorusError => CLASSES.some((one) => error instanceof one)

const REQUEST = "infer request"

/** One class for a bad request, whichever side has found it; and for what went wrong among the ranks, one as well. */
export const asCaller = (error: unknown): unknown => {
  if (error instanceof Wire.MalformedMessage && error.kind === REQUEST) return invalid(error.field, error.reason)
  if (isInferError(error) && !isChorusError(error)) {
    return failed("session" in error ? error.session : "", error.message)
  }
  return error
}

const isInferError = Schema.is(Wire.InferError)

/** What a session's log says of its failure. */
export const failed = (session: string, reason: string): Error => new Wire.SessionFailed({ session, reason })

/** A request that is not sent. */
export const invalid = (field: string, reason: string): Error => new Wire.InvalidRequest({ field, reason })

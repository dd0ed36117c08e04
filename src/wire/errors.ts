// The errors that cross the wire. Each is data first; its message names the field or the limit and says what to do next.
import { Schema } from "effect"

export class MalformedMessage extends Schema.TaggedError<MalformedMessage>()("MalformedMessage", {
  kind: Schema.String, // of message: "activation", "pass command", ...
  field: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `malformed ${this.kind}: ${this.field}: ${this.reason}`
  }
}

/** A field of a request is missing or out of its range. */
export class InvalidRequest extends Schema.TaggedError<InvalidRequest>()("InvalidRequest", {
  field: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.field}: ${this.reason}`
  }
}

/** A rank has no such session, or not up to the length that the pass builds on: fill its KV again from the log. */
export class UnknownSession extends Schema.TaggedError<UnknownSession>()("UnknownSession", {
  group: Schema.String,
  rank: Schema.Int,
  session: Schema.String,
  expected: Schema.Int, // committed tokens that the pass builds on
  actual: Schema.Int, // committed tokens there; -1 where the session is not known at all
}) {
  override get message() {
    return `rank ${this.rank} of ${this.group} holds ${this.actual} of session ${this.session}'s ${this.expected} tokens. Prefill it again.`
  }
}

/** The command's epoch is not the group's: its sender is an owner of former times, or ahead of this rank. */
export class WrongEpoch extends Schema.TaggedError<WrongEpoch>()("WrongEpoch", {
  group: Schema.String,
  rank: Schema.Int,
  expected: Schema.Int,
  actual: Schema.Int,
}) {
  override get message() {
    return `rank ${this.rank} of ${this.group} is in epoch ${this.expected}, the command in ${this.actual}. Ask for the group's epoch and try again.`
  }
}

/** A pass failed on its rank. */
export class PassFailed extends Schema.TaggedError<PassFailed>()("PassFailed", {
  group: Schema.String,
  rank: Schema.Int,
  reason: Schema.String,
}) {
  override get message() {
    return `a pass failed on rank ${this.rank} of ${this.group}: ${this.reason}`
  }
}

/** A peer's activation did not come within the time for one exchange. */
export class PeerSilent extends Schema.TaggedError<PeerSilent>()("PeerSilent", {
  group: Schema.String,
  rank: Schema.Int, // the one that waited
  peer: Schema.Int,
  step: Schema.Int,
}) {
  override get message() {
    return `rank ${this.rank} of ${this.group} waited in vain for rank ${this.peer} in step ${this.step} of a pass`
  }
}

/** No answer to a pass: the group, or its leader, is gone. */
export class GroupSilent extends Schema.TaggedError<GroupSilent>()("GroupSilent", {
  group: Schema.String,
  reason: Schema.String,
  blameless: Schema.optionalKey(Schema.Boolean), // true where no rank is known to have ended: a connection was lost, or a replica given up
}) {
  override get message() {
    return `group ${this.group} did not answer: ${this.reason}`
  }
}

export class Cancelled extends Schema.TaggedError<Cancelled>()("Cancelled", { session: Schema.String }) {
  override get message() {
    return `session ${this.session} was cancelled`
  }
}

/** There is nothing to read of a session: it never was, or its tokens are older than what the stream keeps. */
export class SessionExpired extends Schema.TaggedError<SessionExpired>()("SessionExpired", { session: Schema.String }) {
  override get message() {
    return `session ${this.session} has no tokens to read: it never was, or its retention is over. Generate again; the same request and seed give the same tokens.`
  }
}

/** A session was accepted and came to nothing; only what answers with the whole answer says so. */
export class SessionFailed extends Schema.TaggedError<SessionFailed>()("SessionFailed", {
  session: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `session ${this.session} failed: ${this.reason}. Ask again: the same request and seed give the same tokens.`
  }
}

/** What has to be stored is not taken: JetStream is off, full, or too small for it. Nothing begins without it. */
export class StorageRefused extends Schema.TaggedError<StorageRefused>()("StorageRefused", {
  storage: Schema.String, // name of the stream
  reason: Schema.String,
  tooLarge: Schema.Boolean, // what was to be stored: another try would be refused as well
}) {
  override get message() {
    return `the storage ${this.storage} on NATS refuses: ${this.reason}.`
  }
}

/** A session loses its ranks wherever it runs: it brings them down itself, as far as anybody can tell. */
export class PoisonSession extends Schema.TaggedError<PoisonSession>()("PoisonSession", {
  session: Schema.String,
  at: Schema.Int, // position of the token that does not come
  losses: Schema.Int, // in a row
  reason: Schema.String, // of the last one
}) {
  override get message() {
    return `session ${this.session} has brought down its ranks ${this.losses} times at token ${this.at} (${this.reason}) and is not tried again. \`chorus ps\` shows how ranks ended; what is asked for, or a model's file, has to be another.`
  }
}

/** The whole answer is there, and larger than a message may be. */
export class AnswerTooLarge extends Schema.TaggedError<AnswerTooLarge>()("AnswerTooLarge", {
  session: Schema.String,
  bytes: Schema.Int,
  limit: Schema.Int, // of the server: max_payload
}) {
  override get message() {
    return `the answer of session ${this.session} has ${this.bytes} bytes, a message at most ${this.limit}. Read it from the session's token log.`
  }
}

/** Prompt and answer together are longer than the context, or than the memory set aside for KV. */
export class ContextExceeded extends Schema.TaggedError<ContextExceeded>()("ContextExceeded", {
  prompt: Schema.Int,
  maxTokens: Schema.Int,
  context: Schema.Int,
}) {
  override get message() {
    return `the prompt has ${this.prompt} tokens and asks for ${this.maxTokens} more, the context holds ${this.context}. Shorten the prompt or lower maxTokens.`
  }
}

/** No machine, or not all of them together, has what the ranks of a deployment need. */
export class NoPlacement extends Schema.TaggedError<NoPlacement>()("NoPlacement", {
  deployment: Schema.String,
  reason: Schema.String, // with figures
}) {
  override get message() {
    return `there is no place for ${this.deployment}: ${this.reason}`
  }
}

/** The ranks of a deployment were placed, but could not start. */
export class ActivationFailed extends Schema.TaggedError<ActivationFailed>()("ActivationFailed", {
  deployment: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.deployment} could not be activated: ${this.reason}`
  }
}

export class UnknownDeployment extends Schema.TaggedError<UnknownDeployment>()("UnknownDeployment", {
  deployment: Schema.String,
}) {
  override get message() {
    return `there is no deployment ${this.deployment}. \`chorus ls\` shows those that there are, \`chorus deploy FILE\` adds one.`
  }
}

/** More requests wait than may. */
export class Overloaded extends Schema.TaggedError<Overloaded>()("Overloaded", {
  deployment: Schema.String,
  waiting: Schema.Int,
  retryAfterMillis: Schema.Int,
}) {
  override get message() {
    return `${this.deployment} has ${this.waiting} requests waiting, its limit. Try again in ${this.retryAfterMillis} ms.`
  }
}

/** A client has as many sessions as one may have. */
export class ClientLimited extends Schema.TaggedError<ClientLimited>()("ClientLimited", {
  client: Schema.String,
  limit: Schema.Int,
  retryAfterMillis: Schema.Int,
}) {
  override get message() {
    return `${this.client} has ${this.limit} sessions that run or wait, its limit. Try again in ${this.retryAfterMillis} ms, or cancel one.`
  }
}

/** What a rank answers instead of a pass's result. */
export const PassError = Schema.Union([
  MalformedMessage,
  InvalidRequest,
  UnknownSession,
  WrongEpoch,
  PassFailed,
  PeerSilent,
  Cancelled,
])
export type PassError = typeof PassError.Type

/** What a client gets instead of a session. */
export const InferError = Schema.Union([
  MalformedMessage,
  InvalidRequest,
  ContextExceeded,
  GroupSilent,
  PassFailed,
  Cancelled,
  Overloaded,
  NoPlacement,
  ActivationFailed,
  UnknownDeployment,
  ClientLimited,
  SessionFailed,
  AnswerTooLarge,
  StorageRefused,
])
export type InferError = typeof InferError.Type

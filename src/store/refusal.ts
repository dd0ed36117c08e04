// What an error of JetStream means: another writer was quicker, the stream is gone, JetStream refuses, or no answer came yet.
// nats-server says the same in several ways.
import { JetStreamApiCodes, JetStreamApiError, JetStreamError } from "@nats-io/jetstream"
import { InvalidArgumentError, NoRespondersError } from "@nats-io/transport-node"
import { isForbidden } from "../bus/connection.ts"
import { StorageRefused } from "../wire/errors.ts"
import { type StorageError, StorageSilent, StreamMissing } from "./storage.ts"

/** A lost race. With more copies than one, most losers hear the second: what they have lost to is not applied yet. */
const CONFLICTS: ReadonlySet<number> = new Set([
  JetStreamApiCodes.StreamWrongLastSequence,
  JetStreamApiCodes.StreamWrongLastSequenceUnknown,
])

/** Whether another writer came in between. What is there now is the leader's to say, and perhaps only in a moment. */
export const isConflict = (error: unknown): boolean => error instanceof JetStreamApiError && CONFLICTS.has(error.code)

/** Whether there is no such stream: it was never made, or is gone with all that was in it. */
export const isMissing = (error: unknown): boolean => {
  if (error instanceof JetStreamApiError) return error.code === JetStreamApiCodes.StreamNotFound
  if (error instanceof JetStreamError) return "code" in error && error.code === 503 // a batch of direct gets found no responder
  const subject = unheard(error)
  return subject !== null && !isApi(subject)
}

/** Answers that a cluster gives while it chooses its leaders, and 10158: the same message is on its way already. */
const FOR_A_MOMENT: ReadonlySet<number> = new Set([10004, 10006, 10007, 10008, 10009, 10158])

const FULL: ReadonlySet<number> = new Set([10002, 10023, 10028, 10047, 10077])

/** Why JetStream does not do what it is asked for; null where asking again may be enough. `storage`: of a stream or bucket. */
export const refusalOf = (storage: string, error: unknown): StorageRefused | null => {
  const refused = (reason: string, tooLarge = false) => new StorageRefused({ storage, reason, tooLarge })
  if (error instanceof StorageRefused) return error
  if (isForbidden(error)) return refused("the key that was shown may not do that. An operator's or a supervisor's may")
  if (error instanceof InvalidArgumentError) return refused(`${error.message}. ${SMALL}`, true)
  if (isConflict(error) || isMissing(error)) return null
  if (isDisabled(error)) return refused(`JetStream is not enabled. ${DISABLED}`)
  if (!(error instanceof JetStreamApiError) || FOR_A_MOMENT.has(error.code)) return null
  return refused(`${error.message}${FULL.has(error.code) ? `: it is full. ${ROOM}` : ""}`)
}

/** Of a stream, for a writer that has not lost a race. */
export const storageErrorOf = (stream: string, error: unknown): StorageError => {
  if (isMissing(error)) return new StreamMissing({ stream })
  const reason = error instanceof Error ? error.message : String(error)
  return refusalOf(stream, error) ?? new StorageSilent({ stream, reason })
}

const ROOM = "Make room on nats-server's disk, or raise its max_file_store; what is asked then goes on by itself"
const SMALL = "Raise max_payload of nats-server (nats.conf has 8MB), or shorten what is asked"
const DISABLED = "Start nats-server with it, and with room on its disk"

const OFF: ReadonlySet<number> = new Set([JetStreamApiCodes.JetStreamNotEnabledForAccount, 10076])

const isDisabled = (error: unknown): boolean => {
  if (error instanceof JetStreamApiError) return OFF.has(error.code)
  if (error instanceof NoRespondersError) return isApi(error.subject)
  return error instanceof Error && error.cause !== undefined && isDisabled(error.cause)
}

/** The subject that had no listener. */
const unheard = (error: unknown): string | null => {
  if (error instanceof NoRespondersError) return error.subject
  return error instanceof Error && error.cause !== undefined ? unheard(error.cause) : null
}

/** Where JetStream is on, this subject has a responder; direct gets are a stream's own. */
const isApi = (subject: string): boolean => subject.startsWith("$JS.API.") && !subject.startsWith("$JS.API.DIRECT.GET.")

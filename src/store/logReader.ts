// A session's log as its readers see it: a supervisor is asked, JetStream sends. A reader needs no more than an inbox.
import type { NatsConnection } from "@nats-io/transport-node"
import { Result } from "effect"
import { onEvent, untilAnswered } from "../bus/connection.ts"
import { inboxOf } from "../bus/dial.ts"
import { hedged } from "../bus/hedged.ts"
import { codec } from "../wire/codec.ts"
import { SessionFailed, StorageRefused } from "../wire/errors.ts"
import { ReadAnswer, ReadRequest } from "../wire/read.ts"
import { placeOfLog, subjectsOf } from "../wire/subjects.ts"
import { entryOf, type Logged } from "./tokenLog.ts"

const requests = codec("read request", ReadRequest)
const answers = codec("read answer", ReadAnswer)

/** To be answered takes a supervisor milliseconds. */
const ANSWER_MILLIS = 2_000

/** To look twice harms nothing. To follow twice would have two consumers send the same. */
const HEDGE = {
  Look: { afterMillis: 400, withinMillis: ANSWER_MILLIS },
  Follow: { afterMillis: ANSWER_MILLIS, withinMillis: ANSWER_MILLIS },
} as const

/** A session that has not ended, and that this many looks in a row find without an owner, is lost. */
const LOST_LOOKS = 2

/** A reader that has received nothing for this long looks whether something is missing, or nothing is left to come. */
const QUIET_MILLIS = 2_000

export interface FollowOptions {
  readonly after?: number // sequence; 0, the default, begins with what is left of the log
  readonly signal?: AbortSignal // ends the iteration
}

/** Whether a log has lost its tail, and what was read is written anew: the same tokens, under other numbers. */
export const isRewritten = (last: Logged, newest: Logged | null): boolean =>
  newest !== null &&
  (last.sequence < newest.sequence ||
    (last.sequence === newest.sequence && (last.entry._tag !== newest.entry._tag || endOf(last) !== endOf(newest))))

/** The position behind an entry's tokens. */
const endOf = ({ entry }: Logged): number => entry.at + (entry._tag === "Tokens" ? entry.tokens.length : 0)

/**
 * A session's log, then live, until its end, each entry once, also over restarts of the server; twice only where the log has
 * lost its tail. Ends without an End entry where the signal or the connection's end, or the retention's, stops it. Throws
 * where the log's storage refuses, or has lost the session.
 */
export async function* follow(
  connection: NatsConnection,
  subject: string,
  { after: from = 0, signal }: FollowOptions = {},
): AsyncGenerator<Logged, void, void> {
  const { deployment, session } = placeOfLog(subject)
  const { interest } = subjectsOf(deployment)
  let after = from
  let newest: Logged | null = null
  const isLeft = (): boolean => signal?.aborted === true
  while (!connection.isClosed() && !isLeft()) {
    const to = inboxOf(connection)
    const messages = connection.subscribe(to)
    let failure: Error | undefined
    let alone = 0 // looks in a row
    let again = false // what JetStream sends has ended, or an entry of it was lost on the way
    const stop = (): void => messages.unsubscribe()
    const unwatch = onEvent(connection, (event) => {
      again ||= event === "reconnect"
      if (event !== "disconnect") stop()
    })
    const fail = (error: unknown): void => {
      if (!(error instanceof StorageRefused)) return
      failure = error
      stop()
    }
    let waits = true // for JetStream, and not our reader for itself
    let looks = false // one at a time: it may take until there is a supervisor again
    const look = setInterval(() => {
      if (!waits || looks) return
      looks = true
      const before: Logged | null = newest
      // Its owner says so, if its log does not take its end.
      connection.publish(interest(session), undefined, { reply: to })
      const looked = lookAt(connection, subject).finally(() => {
        looks = false
      })
      looked.then(({ last, running }) => {
        if (newest !== before) return // it goes on
        alone = running === false ? alone + 1 : 0
        if (alone < LOST_LOOKS && running !== undefined && last === null) return // its log may be written anew
        if (alone === LOST_LOOKS && last !== null) {
          failure = new SessionFailed({ session, reason: LOST })
          return stop()
        }
        const rewritten = last !== null && isRewritten(last, newest)
        // A server of a cluster that dies takes what was to be sent along, though our connection may be to another.
        const missed = last !== null && last.sequence > (newest?.sequence ?? after)
        if (last !== null && !rewritten && !missed) return
        again ||= last !== null
        if (rewritten) {
          newest = null
          after = 0 // what came before may have other numbers, too
        }
        stop()
      }, fail)
    }, QUIET_MILLIS)
    signal?.addEventListener("abort", stop)
    if (isLeft()) stop()
    let delivered = 0
    try {
      await ask(connection, subject, { _tag: "Follow", session, after: newest?.sequence ?? after, to })
      for await (const { data, reply = "" } of messages) {
        const sent = sentAs(reply)
        if (sent === null) {
          const told = answers.decode(data)
          if (Result.isSuccess(told) && told.success._tag === "NotRead" && told.success.refused)
            throw told.success.refused
          continue
        }
        if (sent.delivery !== ++delivered) {
          again = true
          break
        }
        newest = { entry: entryOf(data), sequence: sent.sequence }
        waits = false
        yield newest
        waits = true
        look.refresh()
        if (newest.entry._tag === "End") return
      }
    } finally {
      clearInterval(look)
      signal?.removeEventListener("abort", stop)
      unwatch()
      stop()
    }
    if (failure !== undefined) throw failure
    if (!again) return
  }
}

const LOST = "chorus_executions has lost it, as when a store is emptied, or its supervisor could not end its log"

interface Sent {
  readonly sequence: number // in the stream
  readonly delivery: number // counted from 1 for each reader
}

/** Out of the reply subject of a message that JetStream sends: $JS.ACK.[domain.account.]stream.consumer.times.sequence.delivery.time.pending */
const sentAs = (reply: string): Sent | null => {
  const tokens = reply.split(".")
  if (tokens[0] !== "$JS" || tokens[1] !== "ACK") return null
  const [sequence, delivery] = tokens.slice(tokens.length === 9 ? 5 : 7).map(Number)
  return sequence === undefined || delivery === undefined ? null : { sequence, delivery }
}

/** A log's first or last entry; null where there is none, or none any more. */
export const entryAt = async (
  connection: NatsConnection,
  subject: string,
  which: "first" | "last",
): Promise<Logged | null> => {
  return (await lookAt(connection, subject))[which]
}

const lookAt = async (connection: NatsConnection, subject: string) => {
  const answer = await ask(connection, subject, { _tag: "Look", session: placeOfLog(subject).session })
  return answer._tag === "Looked" ? answer : { first: null, last: null, running: undefined }
}

const ask = (connection: NatsConnection, subject: string, request: ReadRequest): Promise<ReadAnswer> => {
  const { read } = subjectsOf(placeOfLog(subject).deployment)
  const message = Result.getOrThrow(requests.tryEncode(request))
  return untilAnswered(connection, async () => {
    const { data } = await hedged(HEDGE[request._tag], (timeout) => connection.request(read, message, { timeout }))
    const answer = Result.getOrThrow(answers.decode(data))
    if (answer._tag === "NotRead") throw answer.refused ?? new Error(answer.reason)
    return answer
  })
}

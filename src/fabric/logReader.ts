// A session's log as its readers see it: a supervisor is asked, JetStream sends. Whoever reads needs no more than an inbox.
import { type NatsConnection, PermissionViolationError, RequestError } from "@nats-io/transport-node"
import { Result } from "effect"
import { codec } from "../wire/codec.ts"
import { MalformedMessage } from "../wire/errors.ts"
import { ReadAnswer, ReadRequest } from "../wire/read.ts"
import { placeOfLog, subjectsOf } from "../wire/subjects.ts"
import { answered, inboxOf, onEvent } from "./nats.ts"
import { entryOf, type Logged } from "./tokenLog.ts"

const requests = codec("read request", ReadRequest)
const answers = codec("read answer", ReadAnswer)

/** How often a reader asks again, and the time between. */
const ATTEMPTS = 50
const ATTEMPT_AGAIN_MILLIS = 100
const ANSWER_MILLIS = 2_000

/** A reader to whom nothing comes for so long looks whether something is missing, or nothing left to come. */
const QUIET_MILLIS = 5_000

export interface FollowOptions {
  readonly after?: number // sequence; 0, the default, begins with what is left of the log
  readonly signal?: AbortSignal // ends the iteration
}

/**
 * A session's log, then live, until its end, each entry once, also over restarts of the server. Ends without an End entry
 * where the signal or the connection's end, or the retention's, stops it.
 */
export async function* follow(
  connection: NatsConnection,
  subject: string,
  { after = 0, signal }: FollowOptions = {},
): AsyncGenerator<Logged, void, void> {
  let sequence = after
  const isLeft = (): boolean => signal?.aborted === true
  while (!connection.isClosed() && !isLeft()) {
    const to = inboxOf(connection)
    const messages = connection.subscribe(to)
    let again = false // what JetStream sends has ended, or an entry of it was lost on the way
    const stop = (): void => messages.unsubscribe()
    const unwatch = onEvent(connection, (event) => {
      again ||= event === "reconnect"
      if (event !== "disconnect") stop()
    })
    const look = setInterval(() => {
      const known = sequence
      entryAt(connection, subject, "last").then((last) => {
        again ||= last !== null && last.sequence > known && sequence === known
        if (again || last === null) stop()
      }, ignore)
    }, QUIET_MILLIS)
    signal?.addEventListener("abort", stop)
    if (isLeft()) stop()
    let delivered = 0
    try {
      await ask(connection, subject, { _tag: "Follow", session: placeOfLog(subject).session, after: sequence, to })
      for await (const { data, reply = "" } of messages) {
        const sent = sentAs(reply)
        if (sent === null) continue
        if (sent.delivery !== ++delivered) {
          again = true
          break
        }
        const entry = entryOf(data)
        look.refresh()
        sequence = sent.sequence
        yield { entry, sequence }
        if (entry._tag === "End") return
      }
    } finally {
      clearInterval(look)
      signal?.removeEventListener("abort", stop)
      unwatch()
      stop()
    }
    if (!again) return
  }
}

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
  const answer = await ask(connection, subject, { _tag: "Look", session: placeOfLog(subject).session })
  return answer._tag === "Looked" ? answer[which] : null
}

/** Asks again where the connection was lost meanwhile, or supervisors are not back yet. */
const ask = async (connection: NatsConnection, subject: string, request: ReadRequest): Promise<ReadAnswer> => {
  const { read } = subjectsOf(placeOfLog(subject).deployment)
  const message = Result.getOrThrow(requests.tryEncode(request))
  for (let attempt = 0; ; attempt++) {
    try {
      const { data } = await answered(connection, connection.request(read, message, { timeout: ANSWER_MILLIS }))
      const answer = Result.getOrThrow(answers.decode(data))
      if (answer._tag !== "NotRead") return answer
      throw new Error(answer.reason)
    } catch (error) {
      const final =
        connection.isClosed() || attempt === ATTEMPTS || error instanceof MalformedMessage || isForbidden(error)
      if (final) throw error
      await new Promise((resolve) => setTimeout(resolve, ATTEMPT_AGAIN_MILLIS))
    }
  }
}

const isForbidden = (error: unknown): boolean =>
  error instanceof RequestError && error.cause instanceof PermissionViolationError

const ignore = (): void => {}

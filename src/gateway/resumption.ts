// Streams that can be taken up again. The id of each event says which sessions answer, and how many events of each choice its
// reader has had by then: all that any gateway needs to go on behind it. An id is a licence to read, since a session's
// name cannot be guessed.
import { Effect, Stream } from "effect"
import { HttpServerRequest } from "effect/http"
import { type ApiError, invalid } from "./errors.ts"
import type { ServerSentEvent } from "./serverSentEvents.ts"

/** The route's answers, by the beginning of their ids. */
export type Kind = "chatcmpl" | "cmpl" | "playground"

/** A place in a stream: the end of the events that its reader has had. */
export interface StreamPosition {
  readonly kind: Kind
  readonly created: number // seconds since 1970
  readonly choices: ReadonlyArray<{ readonly session: string; readonly had: number }>
}

/** One event of a stream before it has its id. What belongs to no choice counts as the last one's. */
export interface Chunk {
  readonly choice: number | null // null: told once, as it comes, and not again
  readonly data: object
}

/** A stream that begins at a place, or goes on from there. */
interface From {
  readonly place: StreamPosition
  readonly resumable: boolean
}

/** Leaves out the events that were had, and gives each its id where the stream can be taken up again. */
export const numbered = (
  { place: { kind, created, choices }, resumable }: From,
  chunks: Stream.Stream<Chunk, ApiError>,
): Stream.Stream<ServerSentEvent, ApiError> => {
  const counts = choices.map(({ session }) => ({ session, had: 0 }))
  return chunks.pipe(
    Stream.map(({ choice, data }): ReadonlyArray<ServerSentEvent> => {
      if (choice === null) return [{ data }]
      const count = counts[choice]
      if (count === undefined) return []
      count.had++
      if (count.had <= (choices[choice]?.had ?? 0)) return []
      return [resumable ? { id: idOf({ kind, created, choices: counts }), data } : { data }]
    }),
    Stream.flattenIterable,
  )
}

/** chatcmpl.1767225600.<session>:12, with a session for each choice. */
export const idOf = ({ kind, created, choices }: StreamPosition): string =>
  [kind, created, ...choices.map(({ session, had }) => `${session}:${had}`)].join(".")

/** Undefined where it is no id of that kind. */
export const placeOf = (id: string, kind: Kind): StreamPosition | undefined => {
  const [, given, created, choices = ""] = ID.exec(id) ?? []
  if (given !== kind) return undefined
  return {
    ...{ kind, created: Number(created) },
    choices: [...choices.matchAll(CHOICE)].map(([, session = "", had]) => ({ session, had: Number(had) })),
  }
}

const ID = /^(\w+)\.(\d{1,15})((?:\.[\w-]{1,64}:\d{1,15})+)$/
const CHOICE = /\.([\w-]+):(\d+)/g

const MOST_SECONDS = 3_600

/** What a request's headers say of its stream. */
export interface Resumption {
  readonly from: StreamPosition | null // null: it begins
  readonly resumable: boolean // its reader has asked for what it takes: other readers may not expect ids
  readonly millis: number | null // that its sessions go on without a reader; null: they end with the connection
}

const LAST_EVENT_ID = "Last-Event-ID"
const RESUME = "X-Chorus-Resume"

/** Of a request for this many choices. */
export const resumptionOf = Effect.fnUntraced(function* (kind: Kind, stream: boolean, choices: number) {
  const { headers } = yield* HttpServerRequest.HttpServerRequest
  const [id, seconds] = [headers["last-event-id"], headers["x-chorus-resume"]]
  const given = id === undefined ? RESUME : LAST_EVENT_ID
  if (!stream && (id ?? seconds) !== undefined) {
    return yield* invalid(given, "is for streams. Give stream: true, or leave the header out")
  }
  const resumption: Resumption = {
    from: id === undefined ? null : yield* from(id, kind, choices),
    resumable: (id ?? seconds) !== undefined,
    millis: seconds === undefined ? null : 1000 * (yield* secondsOf(seconds)),
  }
  return resumption
})

const from = (id: string, kind: Kind, choices: number): Effect.Effect<StreamPosition, ApiError> => {
  const place = placeOf(id, kind)
  if (place === undefined) {
    return invalid(LAST_EVENT_ID, "is no id of this route's events. Send the last one as it came, to the same route")
  }
  if (place.choices.length !== choices) {
    const reason = `is of a stream of ${place.choices.length} choices, the request is for ${choices}. Send the same request again`
    return invalid(LAST_EVENT_ID, reason)
  }
  return Effect.succeed(place)
}

const secondsOf = (text: string): Effect.Effect<number, ApiError> => {
  const seconds = /^\d{1,4}$/.test(text) ? Number(text) : 0
  return seconds >= 1 && seconds <= MOST_SECONDS
    ? Effect.succeed(seconds)
    : invalid(RESUME, `expected a whole number of seconds from 1 to ${MOST_SECONDS}`)
}

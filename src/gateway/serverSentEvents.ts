// Server-sent events: each is flushed at once, a silence is filled with comments so that no proxy takes it for the end, and
// a failure after the first byte is a last event of its own.
import { Schedule, Stream } from "effect"
import { HttpServerResponse } from "effect/http"
import { type ApiError, bodyOf } from "./errors.ts"

const KEEP_ALIVE = "15 seconds"

export interface ServerSentEvent {
  readonly id?: string // what a client that lost the connection sends back
  readonly data: object
}

/** A stream of JSON objects as OpenAI's clients read it, "[DONE]" last where it ends well. */
export const eventStream = (
  events: Stream.Stream<ServerSentEvent, ApiError>,
): HttpServerResponse.HttpServerResponse => {
  const data = events.pipe(
    Stream.map(({ id, data }) => `${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`),
    Stream.concat(Stream.make("data: [DONE]\n\n")),
    Stream.catch((error) => Stream.make(`data: ${JSON.stringify(bodyOf(error))}\n\n`)),
  )
  const silence = Stream.fromSchedule(Schedule.spaced(KEEP_ALIVE)).pipe(Stream.map(() => ": still at it\n\n"))
  return HttpServerResponse.stream(Stream.merge(data, silence, { haltStrategy: "left" }).pipe(Stream.encodeText), {
    contentType: "text/event-stream",
    headers: { "cache-control": "no-cache", "x-accel-buffering": "no" },
  })
}

// Server-sent events: each is flushed at once, a silence is filled so that no proxy takes it for the end, and a failure after
// the first byte is a last event of its own.
//
// What fills a silence must not disturb a reader. Readers of benchmarks take each line for JSON; those of OpenAI's clients take
// a comment with its blank line, once an event has had an id, for an event without data. So where events have no ids, the line
// of the next event is begun and goes on with blanks, which stand before JSON unseen. A client that asked for ids reads fields
// and comments; there a comment stands in front of the next event, with no blank line between them.
import { Clock, Effect, Stream } from "effect"
import { HttpServerResponse } from "effect/http"
import { Closing } from "./closing.ts"
import { type ApiError, bodyOf } from "./errors.ts"
import { Options } from "./options.ts"
import { logDefect, logFailure, RequestId } from "./requestId.ts"

export interface ServerSentEvent {
  readonly id?: string // what a client that lost the connection sends back
  readonly data: object
}

/** Before a client that lost its connection asks again. */
const RETRY_MILLIS = 1_000

const SILENCE = "silence"
const DONE = "[DONE]"

type Part = ServerSentEvent | typeof SILENCE | typeof DONE

/** A stream of JSON objects as OpenAI's clients read it, "[DONE]" last where it ends well. Its events have ids where it is resumable. */
export const eventStream = Effect.fnUntraced(function* (
  events: Stream.Stream<ServerSentEvent, ApiError>,
  { resumable }: { readonly resumable: boolean },
) {
  const { keepAliveMillis } = yield* Options
  const { over } = yield* Closing
  const failed = Effect.provideService(RequestId, yield* RequestId)
  const parts = events.pipe(
    Stream.interruptWhen(over),
    Stream.concat(Stream.make<Array<Part>>(DONE)),
    Stream.catchDefect((defect) => Stream.fromEffect(Effect.flatMap(failed(logDefect(defect)), Effect.fail))),
    Stream.catch((error) => Stream.fromEffect(Effect.as(failed(logFailure(error)), { data: lastWordOf(error) }))),
  )
  const writer = new Writer(yield* Clock.Clock, { keepAliveMillis, resumable })
  const silences = Stream.fromEffectRepeat(Effect.map(writer.silence, (): Part => SILENCE))
  const text = Stream.merge(parts, silences, { haltStrategy: "left" }).pipe(
    Stream.map((part) => writer.write(part)),
    Stream.filter((written) => written !== ""),
  )
  return HttpServerResponse.stream(Stream.encodeText(text), {
    contentType: "text/event-stream; charset=utf-8", // without a charset some readers take text for Latin-1
    headers: { "cache-control": "no-cache", "x-accel-buffering": "no" },
  })
})

/** The status comes too late for the answer's own. */
const lastWordOf = (error: ApiError) => ({ error: { ...bodyOf(error).error, status: error.status } })

interface WriterOptions {
  readonly keepAliveMillis: number
  readonly resumable: boolean
}

class Writer {
  readonly #clock: Clock.Clock
  readonly #keepAliveMillis: number
  readonly #resumable: boolean
  #wrote: number // when, on the monotonic clock
  #begun = false // the next event's line
  #first = true

  constructor(clock: Clock.Clock, { keepAliveMillis, resumable }: WriterOptions) {
    this.#clock = clock
    this.#keepAliveMillis = keepAliveMillis
    this.#resumable = resumable
    this.#wrote = this.#now
  }

  get #now(): number {
    return Number(this.#clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  /** Until a silence is long enough to be filled. */
  get #left(): number {
    return this.#wrote + this.#keepAliveMillis - this.#now
  }

  /** Ends when nothing has been written for long enough. */
  readonly silence: Effect.Effect<void> = Effect.suspend(() =>
    Effect.sleep(Math.max(0, this.#left)).pipe(
      Effect.andThen(Effect.suspend(() => (this.#left > 0 ? this.silence : Effect.void))),
    ),
  )

  write(part: Part): string {
    if (part === SILENCE && this.#left > 0) return "" // an event came between
    this.#wrote = this.#now
    if (part === SILENCE) return this.#resumable ? ": still at it\n" : this.#begin(" ")
    if (part === DONE) return `data: ${DONE}\n\n` // follows an event at once, so its line is never begun before
    const { id, data } = part
    const json = JSON.stringify(data)
    if (!this.#resumable) {
      const line = this.#begin(`${json}\n\n`)
      this.#begun = false
      return line
    }
    const retry = this.#first ? `retry: ${RETRY_MILLIS}\n` : ""
    this.#first = false
    return `${retry}${id === undefined ? "" : `id: ${id}\n`}data: ${json}\n\n`
  }

  #begin(rest: string): string {
    const begun = this.#begun
    this.#begun = true
    return begun ? rest : `data: ${rest}`
  }
}

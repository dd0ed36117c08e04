// One generation of a chaos run over HTTP: OpenAI's completions as server-sent events, taken up again behind the last event
// at the other gateway whenever a connection breaks off, hangs, or the scene says so.

import { Option, Schema } from "effect"
import { makeParser } from "effect/encoding/Sse"
import type { InferRequest } from "../client/index.ts"
import type { GenerationOutcome } from "./generation.ts"
import { PATIENCE_MILLIS, pause } from "./patience.ts"
import type { Scene } from "./requests.ts"

export interface HttpGenerating {
  readonly gateways: ReadonlyArray<string> // URLs
  readonly model: string
  readonly request: InferRequest
  readonly scene: Scene
  readonly number: number
  readonly length: number // of the undisturbed answer, in tokens
}

/** A gateway that says nothing for so long is left for the other. */
const SILENT_MILLIS = 4_000

/** Seconds that a session waits for its reader to come back. */
const RESUME_SECONDS = "60"

const Chunk = Schema.fromJsonString(
  Schema.Struct({
    id: Schema.optionalKey(Schema.String),
    choices: Schema.optionalKey(
      Schema.Array(Schema.Struct({ text: Schema.String, finish_reason: Schema.NullOr(Schema.String) })),
    ),
    error: Schema.optionalKey(Schema.Struct({ code: Schema.String, message: Schema.String })),
  }),
)
const decodeChunk = Schema.decodeUnknownOption(Chunk)

/** Errors that say that the session, or the request, is no good; others are of the way to it. */
const FINAL = ["session_expired", "cancelled", "generation_failed", "invalid_value"]

export const overHttp = async (generating: HttpGenerating): Promise<GenerationOutcome> => {
  const one = new Reading(generating)
  const { number, scene, length } = generating
  const leaves = scene.leaves.map((at) => Math.floor(at * length))
  let problem: string | null = null
  let began = performance.now()
  for (let attempt = number; one.finishReason === null && problem === null; attempt++) {
    const had = one.arrivals.length
    problem = await one.read(attempt, (leaves.shift() ?? Number.POSITIVE_INFINITY) + 1)
    if (one.arrivals.length > had) began = performance.now()
    else if (performance.now() - began > PATIENCE_MILLIS) {
      problem ??= `has heard nothing over HTTP for ${PATIENCE_MILLIS / 1_000} s, at last: ${one.last}`
    }
    if (one.finishReason === null) await pause()
  }
  const { session, text, refusals, arrivals, finishReason } = one
  return {
    ...{ number, scene, session, text, refusals, arrivals, problem, views: [] },
    ending: finishReason === null ? null : { finishReason, error: "" },
  }
}

class Reading {
  readonly #of: HttpGenerating
  readonly arrivals: Array<number> = []
  session: string | null = null
  text = ""
  finishReason: "stop" | "length" | null = null
  refusals = 0
  last = "nothing" // why it broke off
  #event = "" // the last one's id

  constructor(of: HttpGenerating) {
    this.#of = of
  }

  /** From where it is, until the end, until this many events were read, or until it breaks off. Returns what is final and wrong. */
  async read(attempt: number, until: number): Promise<string | null> {
    const { gateways } = this.#of
    const hanging = new AbortController()
    let silence: NodeJS.Timeout | undefined
    const heard = (): void => {
      clearTimeout(silence)
      silence = setTimeout(() => hanging.abort(new Error("it was silent")), SILENT_MILLIS)
    }
    let problem: string | null = null
    const parser = makeParser((event) => {
      if (event._tag !== "Event") return
      if (event.id !== undefined) this.#event = event.id
      problem ??= this.#take(event.data)
    })
    try {
      heard()
      const response = await this.#ask(gateways[attempt % gateways.length] ?? "", hanging.signal)
      if (typeof response === "string") return response
      if (response === null) return null
      if (this.arrivals.length === 0) this.arrivals.push(performance.now())
      for await (const piece of response.pipeThrough(new TextDecoderStream())) {
        heard()
        parser.feed(piece)
        if (problem !== null || this.finishReason !== null || this.arrivals.length > until) break
      }
    } catch (error) {
      this.last = error instanceof Error ? error.message : String(error)
    } finally {
      clearTimeout(silence)
      hanging.abort()
    }
    return problem
  }

  /** The events; null where they are to be asked for again, and a text where they never come. */
  async #ask(url: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array> | string | null> {
    const { model, request } = this.#of
    const { prompt, maxTokens: max_tokens, temperature, seed } = request
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: {
        ...{ "content-type": "application/json", "x-chorus-resume": RESUME_SECONDS },
        ...(this.#event === "" ? {} : { "last-event-id": this.#event }),
      },
      body: JSON.stringify({ model, prompt, max_tokens, temperature, seed: Number(seed), stream: true }),
      signal,
    })
    if (response.status === 200) return response.body
    this.refusals += 1
    return this.#take(await response.text())
  }

  /** Gives what is final and wrong. */
  #take(data: string): string | null {
    if (data === "[DONE]") return null
    const chunk = decodeChunk(data)
    if (Option.isNone(chunk)) return `is answered with what is no event: ${data}`
    const { id, choices = [], error } = chunk.value
    if (error !== undefined) {
      this.last = `${error.code}: ${error.message}`
      return FINAL.includes(error.code) ? `ends over HTTP with ${this.last}` : null
    }
    this.session ??= id?.replace(/^cmpl-/, "") ?? null
    for (const { text, finish_reason } of choices) {
      this.text += text
      this.arrivals.push(performance.now())
      if (finish_reason === "stop" || finish_reason === "length") this.finishReason = finish_reason
      else if (finish_reason !== null) return `ends over HTTP with ${finish_reason}`
    }
    return null
  }
}

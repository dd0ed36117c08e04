// POST /v1/completions: one prompt or several, as text or as tokens.
import { Effect, Stream } from "effect"
import { HttpServerResponse } from "effect/http"
import type { InferRequest } from "../client/index.ts"
import { api } from "./api.ts"
import { type ApiError, invalid } from "./errors.ts"
import { CompletionRequest } from "./fields.ts"
import { type ChoiceEvent, collect, type Generations, open } from "./generations.ts"
import { completionLogProbs } from "./logProbs.ts"
import { body } from "./requestBody.ts"
import { type Chunk, numbered } from "./resumption.ts"
import { choicesOf, requestOf } from "./sampling.ts"
import { eventStream } from "./serverSentEvents.ts"
import { usageOf } from "./usage.ts"

const MOST_CHOICES = 64 // prompts times n

/** Where max_tokens is left out, as with OpenAI. */
const MAX_TOKENS = 16

export const completions = api("POST", "/v1/completions", (caller) =>
  Effect.gen(function* () {
    const asked = yield* body(CompletionRequest)
    const { n, best_of } = asked
    if (best_of != null && best_of !== (n ?? 1)) {
      return yield* invalid("best_of", "other than n is not supported here. Leave it out")
    }
    const prompts = promptsOf(asked.prompt)
    if (prompts.length * (n ?? 1) > MOST_CHOICES) {
      return yield* invalid(
        "prompt",
        `${prompts.length} prompts with n ${n ?? 1} are more than ${MOST_CHOICES} answers`,
      )
    }
    const common: InferRequest = {
      ...requestOf({ ...asked, max_tokens: asked.max_tokens ?? MAX_TOKENS }, caller),
      ...(asked.logprobs == null ? {} : { logprobs: asked.logprobs }),
    }
    const requests = prompts.flatMap((prompt) => choicesOf({ ...common, ...prompt }, n ?? 1))
    const answer: Answer = { asked, prompts: prompts.length, generations: yield* open("cmpl", asked, requests) }
    return asked.stream === true ? yield* streamed(answer) : yield* whole(answer)
  }),
)

type Prompt = Pick<InferRequest, "prompt"> | Pick<InferRequest, "tokens">

const promptsOf = (prompt: CompletionRequest["prompt"]): ReadonlyArray<Prompt> => {
  if (typeof prompt === "string") return [{ prompt }]
  if (prompt.every((one) => typeof one === "number")) return [{ tokens: prompt }]
  return prompt.map((one) =>
    typeof one === "string" ? { prompt: one } : { tokens: typeof one === "number" ? [one] : one },
  )
}

interface Answer {
  readonly asked: CompletionRequest
  readonly prompts: number
  readonly generations: Generations
}

const headOf = ({ asked: { model }, generations }: Answer) => ({
  ...{ id: generations.id, object: "text_completion", created: generations.place.created, model },
})

const whole = Effect.fnUntraced(function* (answer: Answer) {
  const { asked, prompts, generations } = answer
  const choices = yield* collect(generations)
  return HttpServerResponse.jsonUnsafe({
    ...headOf(answer),
    choices: choices.map(({ text, finishReason, logged }, index) => ({
      ...{ index, text, finish_reason: finishReason },
      logprobs: asked.logprobs == null ? null : completionLogProbs(logged, 0),
    })),
    usage: usageOf(
      generations,
      prompts,
      choices.map(({ tokens }) => tokens),
    ),
  })
})

const streamed = (answer: Answer) => {
  const { asked, prompts, generations } = answer
  const wantsUsage = asked.stream_options?.include_usage === true
  const head = { ...headOf(answer), ...(wantsUsage ? { usage: null } : {}) }
  const chunk = (choice: number, text: string, finish: string | null, logprobs: object | null = null): Chunk => ({
    choice,
    data: { ...head, choices: [{ ...{ index: choice, text, logprobs }, finish_reason: finish }] },
  })
  const counts = generations.promptTokens.map(() => 0)
  const lengths = generations.promptTokens.map(() => 0) // of the text so far
  const chunkOf = (event: ChoiceEvent): ReadonlyArray<Chunk> => {
    const { choice } = event
    if (event._tag === "Ended") {
      counts[choice] = event.tokens
      return [chunk(choice, "", event.finishReason)]
    }
    const { token } = event
    const offset = lengths[choice] ?? 0
    lengths[choice] = offset + token.text.length
    if (asked.logprobs != null) return [chunk(choice, token.text, null, completionLogProbs([token], offset))]
    return token.text === "" ? [] : [chunk(choice, token.text, null)] // in the middle of a character
  }
  const usage = (): Chunk => ({
    choice: counts.length - 1,
    data: { ...head, choices: [], usage: usageOf(generations, prompts, counts) },
  })
  const chunks: Stream.Stream<Chunk, ApiError> = generations.events.pipe(
    Stream.map(chunkOf),
    Stream.flattenIterable,
    Stream.concat(Stream.suspend(() => (wantsUsage ? Stream.make(usage()) : Stream.empty))),
  )
  return eventStream(numbered(generations, chunks), generations)
}

// POST /v1/completions: one prompt or several, as text or as tokens.
import { Effect, Stream } from "effect"
import { HttpServerResponse } from "effect/http"
import type { InferRequest, PromptToken } from "../client/index.ts"
import { api } from "./api.ts"
import { type ApiError, invalid } from "./errors.ts"
import { CompletionRequest } from "./fields.ts"
import { type Choice, type ChoiceEvent, collect, type Generations, open } from "./generations.ts"
import { CompletionLogProbs, textOfPrompt } from "./logProbs.ts"
import { body } from "./requestBody.ts"
import { type Chunk, numbered } from "./resumption.ts"
import { choicesOf, requestOf } from "./sampling.ts"
import { eventStream } from "./serverSentEvents.ts"
import { NOTHING_USED, usageInStream, usageOf, withToken } from "./usage.ts"

const MOST_CHOICES = 64 // prompts times n

/** Where max_tokens is left out, as with OpenAI; less where the context leaves less. */
const MOST_TOKENS = 16

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
      ...requestOf(asked, caller),
      ...(asked.max_tokens == null ? { mostTokens: MOST_TOKENS } : {}),
      ...(asked.logprobs == null ? {} : { logprobs: asked.logprobs }),
      ...(asked.echo === true ? { promptLogprobs: asked.logprobs ?? 0 } : {}),
    }
    const requests = prompts.flatMap((prompt) => choicesOf({ ...common, ...prompt }, n ?? 1))
    const answer: Answer = { asked, prompts, generations: yield* open("cmpl", asked, requests) }
    return asked.stream === true ? yield* streamed(answer) : yield* whole(answer)
  }),
)

type Prompt = { readonly prompt: string } | { readonly tokens: ReadonlyArray<number> }

const promptsOf = (prompt: CompletionRequest["prompt"]): ReadonlyArray<Prompt> => {
  if (typeof prompt === "string") return [{ prompt }]
  if (prompt.every((one) => typeof one === "number")) return [{ tokens: prompt }]
  return prompt.map((one) =>
    typeof one === "string" ? { prompt: one } : { tokens: typeof one === "number" ? [one] : one },
  )
}

interface Answer {
  readonly asked: CompletionRequest
  readonly prompts: ReadonlyArray<Prompt>
  readonly generations: Generations
}

const headOf = ({ asked: { model }, generations }: Answer) => ({
  ...{ id: generations.id, object: "text_completion", created: generations.place.created, model },
})

/** What a choice's text begins with, where the prompt is to be told. */
const echoOf = ({ prompts, generations }: Answer, choice: number, told: ReadonlyArray<PromptToken>): string => {
  const prompt = prompts[Math.floor((choice * prompts.length) / generations.promptTokens.length)]
  return prompt !== undefined && "prompt" in prompt ? prompt.prompt : textOfPrompt(told)
}

const whole = Effect.fnUntraced(function* (answer: Answer) {
  const { asked, prompts, generations } = answer
  const choices = yield* collect(generations)
  return HttpServerResponse.jsonUnsafe({
    ...headOf(answer),
    ...generations.fingerprint(),
    choices: choices.map((choice, index) => {
      const echo = asked.echo === true ? echoOf(answer, index, choice.prompt) : ""
      return {
        ...{ index, text: echo + choice.text, finish_reason: choice.finishReason },
        logprobs: asked.logprobs == null ? null : wholeLogProbs(choice, echo),
      }
    }),
    usage: usageOf(generations, prompts.length, choices),
  })
})

const wholeLogProbs = ({ prompt, logged, endToken }: Choice, echo: string) => {
  const scores = new CompletionLogProbs()
  const ofPrompt = scores.ofPrompt(prompt, echo)
  const ofAnswer = scores.ofAnswer(endToken === null ? logged : [...logged, endToken])
  return {
    tokens: [...ofPrompt.tokens, ...ofAnswer.tokens],
    token_logprobs: [...ofPrompt.token_logprobs, ...ofAnswer.token_logprobs],
    top_logprobs: [...ofPrompt.top_logprobs, ...ofAnswer.top_logprobs],
    text_offset: [...ofPrompt.text_offset, ...ofAnswer.text_offset],
  }
}

const streamed = (answer: Answer) => {
  const { asked, prompts, generations } = answer
  const usage = usageInStream(asked.stream_options, (used) => usageOf(generations, prompts.length, used))
  const used = generations.promptTokens.map(() => NOTHING_USED)
  const scores = generations.promptTokens.map(() => new CompletionLogProbs())
  const head = headOf(answer)
  const chunk = (choice: number, text: string, finish: string | null, logprobs: object | null = null): Chunk => ({
    choice,
    data: {
      ...head,
      ...generations.fingerprint(),
      choices: [{ ...{ index: choice, text, logprobs }, finish_reason: finish }],
      ...usage.withChunk(used),
    },
  })
  const chunkOf = (event: ChoiceEvent): ReadonlyArray<Chunk> => {
    const { choice } = event
    const told = asked.logprobs == null ? undefined : scores[choice]
    switch (event._tag) {
      case "Prompt": {
        const echo = echoOf(answer, choice, event.tokens)
        return [chunk(choice, echo, null, told?.ofPrompt(event.tokens, echo))]
      }
      case "Token": {
        const { token } = event
        if (token.id >= 0) used[choice] = withToken(used[choice])
        if (token.bytes !== undefined) return [chunk(choice, token.text, null, told?.ofAnswer([token]))]
        return token.text === "" ? [] : [chunk(choice, token.text, null)] // in the middle of a character
      }
      case "Ended": {
        used[choice] = event
        const ending = event.endToken === null ? null : told?.ofAnswer([event.endToken])
        return [chunk(choice, "", event.finishReason, ending)]
      }
    }
  }
  const chunks: Stream.Stream<Chunk, ApiError> = generations.events.pipe(
    Stream.map(chunkOf),
    Stream.flattenIterable,
    Stream.concat(
      Stream.suspend(() => Stream.fromIterable(usage.last(used, { ...head, ...generations.fingerprint() }))),
    ),
  )
  return eventStream(numbered(generations, chunks), generations)
}

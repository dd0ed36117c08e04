// POST /v1/chat/completions.
import { Effect, Stream } from "effect"
import { HttpServerResponse } from "effect/http"
import type { InferRequest } from "../client/index.ts"
import { api } from "./api.ts"
import { type ApiError, invalid } from "./errors.ts"
import { ChatRequest } from "./fields.ts"
import { type ChoiceEvent, collect, type Generations, open } from "./generations.ts"
import { chatLogProbs } from "./logProbs.ts"
import { body } from "./requestBody.ts"
import { type Chunk, numbered } from "./resumption.ts"
import { choicesOf, requestOf } from "./sampling.ts"
import { eventStream } from "./serverSentEvents.ts"
import { NOTHING_USED, usageInStream, usageOf, withToken } from "./usage.ts"

export const chat = api("POST", "/v1/chat/completions", (caller) =>
  Effect.gen(function* () {
    const asked = yield* body(ChatRequest)
    const request = yield* inferRequestOf(asked, caller)
    const generations = yield* open("chatcmpl", asked, choicesOf(request, asked.n ?? 1))
    return asked.stream === true ? yield* streamed(asked, generations) : yield* whole(asked, generations)
  }),
)

const inferRequestOf = Effect.fnUntraced(function* (asked: ChatRequest, caller: string) {
  const { max_tokens, max_completion_tokens, logprobs, top_logprobs } = asked
  if (max_tokens != null && max_completion_tokens != null && max_tokens !== max_completion_tokens) {
    return yield* invalid("max_tokens", "is another number than max_completion_tokens. Give one of them")
  }
  if (top_logprobs != null && logprobs !== true) {
    return yield* invalid("top_logprobs", "needs logprobs: true")
  }
  const request: InferRequest = {
    ...requestOf({ ...asked, max_tokens: max_completion_tokens ?? max_tokens ?? null }, caller),
    messages: asked.messages.map(({ role, content }) => ({
      role: role === "developer" ? "system" : role, // OpenAI's newer name of it; templates know the older one
      content: typeof content === "string" ? content : content.map(({ text }) => text).join(""),
    })),
    ...(logprobs === true ? { logprobs: top_logprobs ?? 0 } : {}),
    ...templateArgumentsOf(asked),
  }
  return request
})

/** As with vLLM, a template hears of the effort by the field's own name. */
const templateArgumentsOf = ({ reasoning_effort, chat_template_kwargs }: ChatRequest) => {
  if (reasoning_effort == null && chat_template_kwargs == null) return {}
  const effort = reasoning_effort == null ? {} : { reasoning_effort }
  return { templateArguments: { ...effort, ...chat_template_kwargs } }
}

const headOf = ({ model }: ChatRequest, { id, place: { created } }: Generations, object: string) => ({
  ...{ id, object, created, model },
})

const whole = Effect.fnUntraced(function* (asked: ChatRequest, generations: Generations) {
  const choices = yield* collect(generations)
  return HttpServerResponse.jsonUnsafe({
    ...headOf(asked, generations, "chat.completion"),
    ...generations.fingerprint(),
    choices: choices.map(({ text, finishReason, logged }, index) => ({
      index,
      message: { role: "assistant", content: text, refusal: null },
      logprobs: asked.logprobs === true ? chatLogProbs(logged) : null,
      finish_reason: finishReason,
    })),
    usage: usageOf(generations, 1, choices),
  })
})

/** Chunks as OpenAI sends them: the role, the text piece by piece, the reason why it ends, and the usage where it is asked for. */
const streamed = (asked: ChatRequest, generations: Generations) => {
  const usage = usageInStream(asked.stream_options, (used) => usageOf(generations, 1, used))
  const used = generations.promptTokens.map(() => NOTHING_USED)
  const head = headOf(asked, generations, "chat.completion.chunk")
  const chunk = (choice: number, delta: object, finish: string | null, logprobs: object | null = null): Chunk => ({
    choice,
    data: {
      ...head,
      ...generations.fingerprint(),
      choices: [{ index: choice, delta, logprobs, finish_reason: finish }],
      ...usage.withChunk(used),
    },
  })
  const chunkOf = (event: ChoiceEvent): ReadonlyArray<Chunk> => {
    const { choice } = event
    if (event._tag === "Prompt") return []
    if (event._tag === "Ended") {
      used[choice] = event
      return [chunk(choice, {}, event.finishReason)]
    }
    const { token } = event
    if (token.id >= 0) used[choice] = withToken(used[choice])
    if (token.bytes !== undefined) return [chunk(choice, { content: token.text }, null, chatLogProbs([token]))]
    return token.text === "" ? [] : [chunk(choice, { content: token.text }, null)] // in the middle of a character
  }
  const chunks: Stream.Stream<Chunk, ApiError> = Stream.fromIterable(used.keys()).pipe(
    Stream.map((index) => chunk(index, { role: "assistant", content: "", refusal: null }, null)),
    Stream.concat(generations.events.pipe(Stream.map(chunkOf), Stream.flattenIterable)),
    Stream.concat(
      Stream.suspend(() => Stream.fromIterable(usage.last(used, { ...head, ...generations.fingerprint() }))),
    ),
  )
  return eventStream(numbered(generations, chunks), generations)
}

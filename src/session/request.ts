// From what a client asks to what the workflow does: defaults filled in, text turned into tokens, limits held.
import { randomBytes } from "node:crypto"
import { Effect } from "effect"
import type { GenerateRequest } from "../generation/request.ts"
import type { Model } from "../model/index.ts"
import type { Deployment } from "../wire/deployment.ts"
import { ContextExceeded, InvalidRequest } from "../wire/errors.ts"
import type { InferRequest } from "../wire/infer.ts"
import { MOST_BIASES, PASS_ROWS, type Sampling } from "../wire/pass.ts"
import type { Encoder } from "./encoder.ts"

export const generateRequest = Effect.fnUntraced(function* (
  request: InferRequest,
  session: string,
  { deployment, base, encoder }: { readonly deployment: Deployment; readonly base: Model; readonly encoder: Encoder },
) {
  const prompt = yield* promptOf(request, deployment.name, base, encoder)
  if (!isSome(prompt)) return yield* invalid("prompt", "has no tokens; say at least a word")
  const maxTokens = yield* maxTokensOf(request, prompt.length, deployment)
  const { minTokens = 0, ignoreEos = false } = request
  if (minTokens > maxTokens) {
    return yield* invalid("minTokens", `is ${minTokens}, more than the ${maxTokens} tokens that the answer may have`)
  }
  const sampling = yield* samplingOf(request, { prompt: prompt.length, base })
  const speculation = request.speculation ?? "adaptive"
  if (typeof speculation === "object") {
    if (deployment.draft === null) {
      return yield* invalid(
        "speculation",
        `the deployment ${deployment.name} has no draft. Leave it out, or say "none"`,
      )
    }
    if (speculation.nodes >= PASS_ROWS || speculation.width > PASS_ROWS) {
      return yield* invalid("speculation", `a pass takes ${PASS_ROWS} rows: ask for fewer than ${PASS_ROWS} nodes`)
    }
  }
  if (request.interestMillis !== undefined && request.stream !== true) {
    return yield* invalid(
      "interestMillis",
      "needs stream: a client that waits for the whole answer has no session to read",
    )
  }
  const generate: Omit<GenerateRequest, "after" | "answerTo"> = {
    ...{ session, prompt, maxTokens, minTokens, ignoreEos, sampling, speculation },
    stop: request.stop ?? [],
    fuzzy: request.fuzzy ?? deployment.fuzzy,
    trace: request.trace ?? false,
    logprobs: request.logprobs ?? null,
    promptLogprobs: request.promptLogprobs ?? null,
    model: deployment.base.model,
    client: request.client ?? null,
    deadlineMillis: request.deadlineMillis ?? null,
    interestMillis: request.interestMillis ?? null,
  }
  return generate
})

const isSome = (tokens: ReadonlyArray<number>): tokens is GenerateRequest["prompt"] => tokens.length > 0

const promptOf = Effect.fnUntraced(function* (
  request: InferRequest,
  deployment: string,
  base: Model,
  encoder: Encoder,
) {
  const { prompt, tokens, messages, templateArguments, addSpecialTokens } = request
  const given = [prompt, tokens, messages].filter((one) => one !== undefined).length
  if (given !== 1) return yield* invalid("prompt", "give exactly one of prompt, tokens and messages")
  if (templateArguments !== undefined && messages === undefined) {
    return yield* invalid("templateArguments", "needs messages: a prompt goes through no template. Leave it out")
  }
  if (tokens !== undefined) {
    const known = base.tokenizer.size
    const outside = tokens.findIndex((token) => token >= known)
    if (outside === -1) return tokens
    return yield* invalid(`tokens[${outside}]`, `is ${tokens[outside]}, the vocabulary has ${known} tokens`)
  }
  const around = addSpecialTokens === undefined ? {} : { addSpecialTokens }
  if (messages === undefined) return yield* encoded(encoder.encode(base, { text: prompt ?? "", ...around }), "prompt")
  if (base.chatTemplate === null) {
    return yield* invalid("messages", `the model of the deployment ${deployment} has no chat template: give a prompt`)
  }
  const told = templateArguments === undefined ? {} : { arguments: templateArguments }
  return yield* encoded(encoder.encode(base, { messages, ...told, ...around }), "messages")
})

const encoded = (tokens: ReturnType<Encoder["encode"]>, field: string) =>
  Effect.mapBoth(tokens, {
    onSuccess: (tokens) => Array.from(tokens), // a record is JSON
    onFailure: ({ message }) => new InvalidRequest({ field, reason: message }),
  })

interface Sampled {
  readonly prompt: number // tokens
  readonly base: Model
}

const samplingOf = Effect.fnUntraced(function* (request: InferRequest, { prompt, base }: Sampled) {
  const { sampling: own } = base
  const settings = {
    temperature: request.temperature ?? own.temperature ?? request.fallbackTemperature ?? 0,
    topP: request.topP ?? own.topP ?? 1,
    minP: request.minP ?? own.minP ?? 0,
    repetitionPenalty: request.repetitionPenalty ?? own.repetitionPenalty ?? 1,
    presencePenalty: request.presencePenalty ?? 0,
    frequencyPenalty: request.frequencyPenalty ?? 0,
  }
  for (const [field, value] of Object.entries(settings)) {
    const [least, most] = BOUNDS[field as keyof typeof settings]
    if (!(value >= least && value <= most))
      return yield* invalid(field, `is ${value}; from ${least} to ${most} is possible`)
  }
  const { presencePenalty: presence, frequencyPenalty: frequency, ...rest } = settings
  const { minTokens = 0, ignoreEos = false } = request
  const bias = yield* biasOf(request, base.tokenizer.size)
  const sampling: Sampling = {
    ...rest,
    topK: request.topK ?? own.topK ?? 0,
    ...(presence === 0 && frequency === 0 ? {} : { penalties: { presence, frequency, from: prompt } }),
    ...(bias.length === 0 ? {} : { bias }),
    ...(minTokens === 0 || ignoreEos ? {} : { barred: { tokens: [...base.ends], before: prompt + minTokens } }),
    seed: request.seed ?? randomBytes(8).readBigUInt64LE(),
  }
  return sampling
})

const BOUNDS = {
  temperature: [0, 100],
  topP: [0, 1],
  minP: [0, 1],
  repetitionPenalty: [0.01, 100],
  presencePenalty: [-2, 2],
  frequencyPenalty: [-2, 2],
} as const

const MOST_BIAS = 100

const biasOf = Effect.fnUntraced(function* ({ logitBias = {} }: InferRequest, known: number) {
  const entries = Object.entries(logitBias)
  if (entries.length > MOST_BIASES) {
    return yield* invalid("logitBias", `has ${entries.length} tokens; at most ${MOST_BIASES} are possible`)
  }
  const bias: Array<readonly [number, number]> = []
  for (const [name, value] of entries) {
    const field = `logitBias.${name.slice(0, 32)}`
    const token = /^(0|[1-9]\d{0,9})$/.test(name) ? Number(name) : Number.NaN
    if (!(token < known)) {
      return yield* invalid(
        field,
        `is not a token: the vocabulary has ${known} tokens, named by their numbers from 0 on`,
      )
    }
    if (!(Math.abs(value) <= MOST_BIAS)) {
      return yield* invalid(field, `is ${value}; from -${MOST_BIAS} to ${MOST_BIAS} is possible`)
    }
    bias.push([token, value])
  }
  return bias
})

/** What was asked for has to fit; what was not asked for is what fits. */
const maxTokensOf = ({ maxTokens, mostTokens }: InferRequest, prompt: number, deployment: Deployment) => {
  const { context, kvTokens = context } = deployment
  const exceeded = (maxTokens: number) => Effect.fail(new ContextExceeded({ prompt, maxTokens, context }))
  if (maxTokens !== undefined) return maxTokens > context - prompt ? exceeded(maxTokens) : Effect.succeed(maxTokens)
  const most = Math.min(mostTokens ?? context, Math.min(context, kvTokens) - prompt)
  return most < Math.min(1, mostTokens ?? 1) ? exceeded(1) : Effect.succeed(most)
}

const invalid = (field: string, reason: string) => Effect.fail(new InvalidRequest({ field, reason }))

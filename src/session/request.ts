// From what a client asks to what the workflow does: defaults filled in, text turned into tokens, limits held.
import { randomBytes } from "node:crypto"
import { Effect } from "effect"
import type { GenerateRequest } from "../generation/state.ts"
import type { Model } from "../model/index.ts"
import type { Deployment } from "../wire/deployment.ts"
import { ContextExceeded, InvalidRequest } from "../wire/errors.ts"
import type { InferRequest } from "../wire/infer.ts"
import { PASS_ROWS, type Sampling } from "../wire/pass.ts"
import type { Encoder } from "./encoder.ts"

const DEFAULT_MAX_TOKENS = 256

export const generateRequest = Effect.fnUntraced(function* (
  request: InferRequest,
  session: string,
  { deployment, base, encoder }: { readonly deployment: Deployment; readonly base: Model; readonly encoder: Encoder },
) {
  const prompt = yield* promptOf(request, base, encoder)
  const [first, ...rest] = prompt
  if (first === undefined) return yield* invalid("prompt", "has no tokens; say at least a word")
  const sampling = yield* samplingOf(request)
  const maxTokens = yield* maxTokensOf(request, prompt.length, deployment.context)
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
    return yield* invalid("interestMillis", "needs stream: who waits for the whole answer has no session to read")
  }
  const generate: Omit<GenerateRequest, "after" | "answerTo"> = {
    ...{ session, prompt: [first, ...rest], maxTokens, sampling, speculation },
    stop: request.stop ?? [],
    fuzzy: request.fuzzy ?? deployment.fuzzy,
    trace: request.trace ?? false,
    logprobs: request.logprobs ?? null,
    model: deployment.base.model,
    client: request.client ?? null,
    deadlineMillis: request.deadlineMillis ?? null,
    interestMillis: request.interestMillis ?? null,
  }
  return generate
})

const promptOf = Effect.fnUntraced(function* (request: InferRequest, base: Model, encoder: Encoder) {
  const { prompt, tokens, messages, addSpecialTokens } = request
  const given = [prompt, tokens, messages].filter((one) => one !== undefined).length
  if (given !== 1) return yield* invalid("prompt", "give exactly one of prompt, tokens and messages")
  if (tokens !== undefined) {
    const known = base.tokenizer.size
    const outside = tokens.findIndex((token) => token >= known)
    if (outside === -1) return tokens
    return yield* invalid(`tokens[${outside}]`, `is ${tokens[outside]}, the vocabulary has ${known} tokens`)
  }
  const around = addSpecialTokens === undefined ? {} : { addSpecialTokens }
  if (messages === undefined) return yield* encoded(encoder.encode(base, { text: prompt ?? "", ...around }), "prompt")
  if (base.chatTemplate === null) return yield* invalid("messages", `${base.name} has no chat template: give a prompt`)
  return yield* encoded(encoder.encode(base, { messages, ...around }), "messages")
})

const encoded = (tokens: ReturnType<Encoder["encode"]>, field: string) =>
  Effect.mapError(tokens, ({ message }) => new InvalidRequest({ field, reason: message }))

const samplingOf = Effect.fnUntraced(function* (request: InferRequest) {
  const sampling: Sampling = {
    temperature: request.temperature ?? 0,
    topK: request.topK ?? 0,
    topP: request.topP ?? 1,
    minP: request.minP ?? 0,
    repetitionPenalty: request.repetitionPenalty ?? 1,
    seed: request.seed ?? randomBytes(8).readBigUInt64LE(),
  }
  const bounds = { temperature: [0, 100], topP: [0, 1], minP: [0, 1], repetitionPenalty: [0.01, 100] } as const
  for (const [field, [least, most]] of Object.entries(bounds)) {
    const value = Number(sampling[field as keyof typeof bounds])
    if (!(value >= least && value <= most))
      return yield* invalid(field, `is ${value}; from ${least} to ${most} is possible`)
  }
  return sampling
})

/** What was asked for has to fit; what nobody asked for is what fits. */
const maxTokensOf = ({ maxTokens }: InferRequest, prompt: number, context: number) => {
  const left = context - prompt
  if (left < 1 || (maxTokens ?? 0) > left) {
    return Effect.fail(new ContextExceeded({ prompt, maxTokens: maxTokens ?? 1, context }))
  }
  return Effect.succeed(maxTokens ?? Math.min(DEFAULT_MAX_TOKENS, left))
}

const invalid = (field: string, reason: string) => Effect.fail(new InvalidRequest({ field, reason }))

// From options to the request that goes over the wire. What is not given is left out and has the deployment's default.
import { Effect, Option } from "effect"
import type { InferRequest } from "../wire/infer.ts"
import { UsageError } from "./errors.ts"
import type { sampling, speculation, Tree, Values } from "./flags.ts"

export type RequestFlags = Values<typeof sampling> & Values<typeof speculation>

/** A prompt as it is, or as what a user says to the model. */
export interface Prompt {
  readonly text: string
  readonly chat: boolean
}

export const requestOf = (
  flags: RequestFlags,
  prompt: Prompt,
  drafts: boolean, // whether the deployment has a draft
): Effect.Effect<InferRequest, UsageError> =>
  Effect.gen(function* () {
    const wanted = Option.getOrElse(flags.speculation, () => true)
    if (Option.isSome(flags.tree)) {
      if (!wanted) return yield* new UsageError({ reason: "--tree and --no-speculation exclude each other" })
      if (!drafts) return yield* new UsageError({ reason: "--tree needs a model that drafts: name one with --draft" })
    }
    return {
      ...(prompt.chat ? { messages: [{ role: "user", content: prompt.text }] } : { prompt: prompt.text }),
      ...given("addSpecialTokens", flags["add-special-tokens"]),
      ...given("maxTokens", flags["max-tokens"]),
      ...given("temperature", flags.temperature),
      ...given("topK", flags["top-k"]),
      ...given("topP", flags["top-p"]),
      ...given("minP", flags["min-p"]),
      ...given("repetitionPenalty", flags["repetition-penalty"]),
      ...given("presencePenalty", flags["presence-penalty"]),
      ...given("frequencyPenalty", flags["frequency-penalty"]),
      ...(flags["logit-bias"].length > 0 ? { logitBias: Object.fromEntries(flags["logit-bias"]) } : {}),
      ...given("minTokens", flags["min-tokens"]),
      ...(flags["ignore-eos"] ? { ignoreEos: true } : {}),
      ...given("seed", flags.seed),
      ...(flags.stop.length > 0 ? { stop: flags.stop } : {}),
      ...given("fuzzy", flags.fuzzy),
      ...given("speculation", wanted && drafts ? flags.tree : Option.some<"none" | Tree>("none")),
    }
  })

const given = <Name extends string, Value>(
  name: Name,
  value: Option.Option<Value>,
): { readonly [_ in Name]?: Value } =>
  Option.isSome(value) ? ({ [name]: value.value } as { readonly [_ in Name]: Value }) : {}

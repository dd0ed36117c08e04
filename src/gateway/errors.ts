// Errors as OpenAI's clients expect them: {error: {message, type, param, code}} with the status that says what
// the client can do about it. The wire's own errors are translated here, and nowhere else.
import { InvalidArgumentError } from "@nats-io/transport-node"
import { Schema } from "effect"
import { HttpServerResponse } from "effect/http"
import { NotServed } from "../client/errors.ts"
import { StorageRefused } from "../wire/errors.ts"

export class ApiError extends Schema.TaggedError<ApiError>()("ApiError", {
  status: Schema.Int,
  reason: Schema.String,
  param: Schema.NullOr(Schema.String), // the field of the request that is wrong
  code: Schema.String,
  retryAfterMillis: Schema.NullOr(Schema.Finite),
}) {
  override get message() {
    return this.reason
  }
}

interface Details {
  readonly param?: string | null
  readonly retryAfterMillis?: number | null
}

export const apiError = (
  status: number,
  code: string,
  reason: string,
  { param = null, retryAfterMillis = null }: Details = {},
): ApiError => new ApiError({ status, code, reason, param, retryAfterMillis })

/** A field of the request is wrong. */
export const invalid = (param: string, reason: string): ApiError =>
  apiError(400, "invalid_value", `${param}: ${reason}`, { param })

/** What the body of an answer says. */
export const bodyOf = ({ status, reason, param, code }: ApiError) => ({
  error: { message: reason, type: typeOf(status), param, code },
})

export const responseOf = (error: ApiError): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.jsonUnsafe(bodyOf(error), { status: error.status, headers: headersOf(error) })

const headersOf = ({ status, retryAfterMillis }: ApiError): Record<string, string> => {
  if (status === 401) return { "www-authenticate": "Bearer" }
  if (retryAfterMillis === null) return {}
  const millis = Math.max(0, Math.ceil(retryAfterMillis))
  return { "retry-after": `${Math.ceil(millis / 1000)}`, "retry-after-ms": `${millis}` } // OpenAI's clients read both
}

const typeOf = (status: number): string => {
  if (status === 401) return "authentication_error"
  if (status === 429) return "rate_limit_error"
  return status < 500 ? "invalid_request_error" : "server_error"
}

/** Status and code by the wire's tag. What stands in no row is a fault of ours. */
const STATUS: Readonly<Record<string, readonly [status: number, code: string]>> = {
  InvalidRequest: [400, "invalid_value"],
  MalformedMessage: [400, "invalid_value"],
  ContextExceeded: [400, "context_length_exceeded"],
  UnknownDeployment: [404, "model_not_found"],
  SessionExpired: [404, "session_expired"],
  Overloaded: [429, "overloaded"],
  ClientLimited: [429, "rate_limit_exceeded"],
  Cancelled: [499, "cancelled"],
  PassFailed: [500, "generation_failed"],
  AnswerTooLarge: [413, "answer_too_large"],
  SessionFailed: [500, "generation_failed"],
  NoAnswer: [504, "timeout"],
  Disconnected: [503, "nats_unreachable"],
  ActivationFailed: [503, "activation_failed"],
  GroupSilent: [503, "generation_failed"],
  NoPlacement: [503, "no_placement"],
  StorageRefused: [503, "storage_refused"],
}

/** How long to wait for a model to be served again, where nothing better is known. */
const AGAIN_MILLIS = 1_000

/** From whatever the client library rejects with. */
export const fromClient = (error: unknown): ApiError => {
  if (error instanceof ApiError) return error
  if (error instanceof NotServed) {
    const reason = `the model ${error.deployment} is not served at the moment. Try again in a second.`
    return apiError(503, "not_served", reason, { retryAfterMillis: AGAIN_MILLIS })
  }
  if (error instanceof InvalidArgumentError) {
    // thrown before anything is sent
    return apiError(
      413,
      "body_too_large",
      `the request is larger than a message of this NATS server may be: ${error.message}`,
    )
  }
  if (error instanceof StorageRefused && error.tooLarge) return apiError(413, "storage_refused", error.message)
  const reason = inOpenAisWords(error instanceof Error ? error.message : String(error))
  const known = STATUS[tagOf(error)]
  if (known === undefined) return apiError(500, "internal_error", reason)
  const [status, code] = known
  return apiError(status, code, reason, {
    param: fieldOf(error),
    retryAfterMillis: retryAfterOf(error) ?? (status === 503 ? AGAIN_MILLIS : null),
  })
}

const tagOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : ""

const retryAfterOf = (error: unknown): number | null =>
  typeof error === "object" && error !== null && "retryAfterMillis" in error ? Number(error.retryAfterMillis) : null

/** A field's name over HTTP. */
const FIELDS: Readonly<Record<string, string>> = {
  maxTokens: "max_tokens",
  topK: "top_k",
  topP: "top_p",
  minP: "min_p",
  repetitionPenalty: "repetition_penalty",
  presencePenalty: "presence_penalty",
  frequencyPenalty: "frequency_penalty",
  logitBias: "logit_bias",
  minTokens: "min_tokens",
  ignoreEos: "ignore_eos",
  tokens: "prompt",
  mostTokens: "max_tokens",
  promptLogprobs: "logprobs",
  templateArguments: "chat_template_kwargs",
}

const inOpenAisWords = (reason: string): string =>
  reason.replaceAll(/\b[a-z]+[A-Z]\w*\b/g, (word) => FIELDS[word] ?? word)

const fieldOf = (error: unknown): string | null => {
  if (typeof error !== "object" || error === null || !("field" in error)) return null
  const field = String(error.field)
  const name = field.replace(/[.[].*$/s, "")
  return `${FIELDS[name] ?? name}${field.slice(name.length)}`
}

// The caller, and whether it may ask: a key where keys are wanted, and no more requests a minute than the limit.
import { Context, Effect, Layer, Option } from "effect"
import { HttpServerRequest } from "effect/http"
import { RateLimiter } from "effect/persistence"
import { type ApiError, apiError } from "./errors.ts"
import { keyOf, keyThatIs } from "./keys.ts"
import { Options } from "./options.ts"

export class Callers extends Context.Service<
  Callers,
  {
    /** The sender's name: that of its key, or of its address where no key is needed. */
    readonly admit: Effect.Effect<string, ApiError, HttpServerRequest.HttpServerRequest>
  }
>()("chorus/gateway/Callers") {
  static readonly layer = Layer.effect(
    this,
    Effect.suspend(() => open()),
  ).pipe(Layer.provide(RateLimiter.layer), Layer.provide(RateLimiter.layerStoreMemory))
}

const open = Effect.fnUntraced(function* () {
  const { keys, requestsPerMinute } = yield* Options
  const limiter = yield* RateLimiter.RateLimiter
  const identify = Effect.fnUntraced(function* () {
    const { headers, remoteAddress } = yield* HttpServerRequest.HttpServerRequest
    if (keys.length === 0) return Option.getOrElse(remoteAddress, () => "unknown")
    const { authorization, "x-api-key": bare } = headers
    const key = keyOf(keys, authorization) ?? keyThatIs(keys, bare ?? "")
    if (key !== undefined) return key.name
    const reason =
      (authorization ?? bare) === undefined
        ? "an API key is needed: send it as authorization: Bearer KEY, or as x-api-key: KEY"
        : "this API key is not known here"
    return yield* apiError(401, "invalid_api_key", reason)
  })
  const limit = (caller: string, limit: number) =>
    limiter.consume({ algorithm: "token-bucket", onExceeded: "fail", window: "1 minute", limit, key: caller }).pipe(
      Effect.mapError(({ reason }) =>
        reason._tag === "RateLimitExceeded"
          ? apiError(429, "rate_limit_exceeded", `more than ${limit} requests a minute. Wait before the next one.`, {
              retryAfterMillis: Math.max(1, 60_000 / limit),
            })
          : apiError(500, "internal_error", reason.message),
      ),
    )
  return Callers.of({
    admit: Effect.gen(function* () {
      const caller = yield* identify()
      if (requestsPerMinute !== null) yield* limit(caller, requestsPerMinute)
      return caller
    }),
  })
})

// A route of the API: counted, admitted, and every failure answered in OpenAI's form.
import { Effect, type Scope } from "effect"
import { HttpRouter, type HttpServerRequest, type HttpServerResponse } from "effect/http"
import { Callers } from "./callers.ts"
import { type ApiError, apiError, responseOf } from "./errors.ts"
import { observe } from "./metrics.ts"

const OURS = apiError(500, "internal_error", "the gateway failed; its log says why")

type Handler<R> = (caller: string) => Effect.Effect<HttpServerResponse.HttpServerResponse, ApiError, R>

export const api = <R>(method: "GET" | "POST", path: HttpRouter.PathInput, handler: Handler<R>) =>
  HttpRouter.add(method, path, answer(path, handler))

const answer = <R>(
  route: string,
  handler: Handler<R>,
): Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  never,
  R | Callers | HttpServerRequest.HttpServerRequest | Scope.Scope
> =>
  Effect.gen(function* () {
    const answered = yield* observe.request(route)
    const { admit } = yield* Callers
    const response = yield* admit.pipe(
      Effect.flatMap(handler),
      Effect.catchDefect((defect) => Effect.andThen(Effect.logError("a request failed", defect), Effect.fail(OURS))),
      Effect.catch((error) => Effect.succeed(responseOf(error))),
    )
    answered(response.status)
    return response
  })

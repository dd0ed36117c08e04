// A route of the API: counted, admitted, and every failure answered in OpenAI's form.
import { Effect, type Scope } from "effect"
import { HttpRouter, type HttpServerRequest, type HttpServerResponse } from "effect/http"
import { Callers } from "./callers.ts"
import { Closing } from "./closing.ts"
import { type ApiError, responseOf } from "./errors.ts"
import { observe } from "./metrics.ts"
import { logDefect, logFailure } from "./requestId.ts"

type Handler<R> = (caller: string) => Effect.Effect<HttpServerResponse.HttpServerResponse, ApiError, R>

export const api = <R>(method: "GET" | "POST", path: HttpRouter.PathInput, handler: Handler<R>) =>
  HttpRouter.route(method, path, answer(path, handler))

const answer = <R>(
  route: string,
  handler: Handler<R>,
): Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  never,
  R | Callers | Closing | HttpServerRequest.HttpServerRequest | Scope.Scope
> =>
  Effect.gen(function* () {
    const answered = yield* observe.request(route)
    const { admit } = yield* Callers
    const response = yield* Effect.flatMap(admit, handler).pipe(
      Effect.raceFirst((yield* Closing).over),
      Effect.catchDefect((defect) => Effect.flatMap(logDefect(defect), Effect.fail)),
      Effect.catch((error) => Effect.as(logFailure(error), responseOf(error))),
    )
    answered(response.status)
    return response
  })

// The name of a request: as its sender gives it, or else made here. Its answer has it, and so have the log and the trace,
// here and where its sessions run.
import { randomUUID } from "node:crypto"
import { Context, Effect } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { type ApiError, apiError } from "./errors.ts"

export const X_REQUEST_ID = "x-request-id"

export const RequestId = Context.Reference<string>("chorus/gateway/RequestId", { defaultValue: () => "" })

const OURS = apiError(500, "internal_error", "the gateway failed; its log says why")

/** As a header can hold it, in one word. */
const GIVEN = /^[\x21-\x7e]{1,128}$/

export const newRequestId = (): string => `req_${randomUUID().replaceAll("-", "")}`

export const named = HttpRouter.middleware(
  (answer) =>
    Effect.gen(function* () {
      const given = (yield* HttpServerRequest.HttpServerRequest).headers[X_REQUEST_ID] ?? ""
      const id = GIVEN.test(given) ? given : newRequestId()
      const response = yield* Effect.provideService(answer, RequestId, id)
      return HttpServerResponse.setHeader(response, X_REQUEST_ID, id)
    }),
  { global: true },
)

/** What was not foreseen stands in the log with its trace; gives what is said of it. */
export const logDefect = (defect: unknown): Effect.Effect<ApiError> =>
  Effect.flatMap(RequestId, (request) =>
    Effect.as(Effect.annotateLogs(Effect.logError("a request failed", defect), { request }), OURS),
  )

/** Logs failures of the service, and not those of the client. */
export const logFailure = ({ status, code, reason }: ApiError): Effect.Effect<void> =>
  status < 500
    ? Effect.void
    : Effect.flatMap(RequestId, (request) =>
        Effect.annotateLogs(Effect.logWarning(`a request failed with ${status} ${code}: ${reason}`), { request }),
      )

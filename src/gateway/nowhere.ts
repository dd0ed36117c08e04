// What no route answers: told what there is instead. The usual mistakes are a base URL without /v1, or with too much before
// it, and another method.
import { Effect } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { apiError, responseOf } from "./errors.ts"

interface Known {
  readonly method: string
  readonly path: string // as routes have it: with parts such as :model
}

/** The route for everything beside those that there are. */
export const nowhere = (known: ReadonlyArray<Known>) => HttpRouter.route("*", "/*", answer(known))

const answer = (known: ReadonlyArray<Known>) =>
  Effect.map(HttpServerRequest.HttpServerRequest, ({ method, url }) => {
    const path = url.replace(/[?#].*$/s, "")
    const asked = `${method} ${path.slice(0, 200)}`
    const allowed = known.filter((route) => isAt(route, path)).map((route) => route.method)
    if (allowed.length > 0) {
      const reason = `${asked} is not possible: this path takes ${allowed.join(" and ")}`
      const allow = allowed.join(", ")
      return HttpServerResponse.setHeader(responseOf(apiError(405, "method_not_allowed", reason)), "allow", allow)
    }
    return responseOf(apiError(404, "unknown_url", `there is no ${asked} here. ${hint(known, path)}`))
  })

const hint = (known: ReadonlyArray<Known>, path: string): string => {
  const meant = tailsOf(path).find((tail) => known.some((route) => isAt(route, tail)))
  return meant === undefined
    ? "There are POST /v1/chat/completions, POST /v1/completions, GET /v1/models, /health, /healthz, /readyz, /version and /metrics, and a playground at /."
    : `There is ${meant}: the base URL of OpenAI's API ends in /v1 here, with nothing before it, such as http://127.0.0.1:8080/v1.`
}

/** What may have been meant: the path below /v1, with less and less of its beginning. */
const tailsOf = (path: string): ReadonlyArray<string> => {
  const parts = path.slice(1, 200).replace(/\/+$/, "").split("/")
  return parts.map((_, i) => `/v1/${parts.slice(i).join("/")}`)
}

const isAt = ({ path }: Known, asked: string): boolean => {
  const [parts, given] = [path.split("/"), asked.split("/")]
  return (
    parts.length === given.length &&
    parts.every((part, i) => (part.startsWith(":") ? given[i] !== "" : part === given[i]))
  )
}

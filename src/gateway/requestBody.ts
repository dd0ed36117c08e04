// The body of a request: JSON of a schema, or the reason why it is not, by the field that is wrong. What a field may hold is
// the schema's alone; what is no field of it is refused by its name.
import { Effect, Result, Schema, SchemaIssue } from "effect"
import { type HttpServerError, HttpServerRequest } from "effect/http"
import { type ApiError, apiError, invalid } from "./errors.ts"
import { Options } from "./options.ts"

export const body = <S extends Schema.ConstraintDecoder<unknown, never>>(schema: S) => {
  const decode = Schema.decodeUnknownResult(schema, { onExcessProperty: "error" })
  return Effect.gen(function* () {
    const value = yield* json
    const decoded = decode(value)
    if (Result.isSuccess(decoded)) return decoded.success
    return yield* refusalOf(decoded.failure.issue)
  })
}

const utf8 = new TextDecoder("utf-8", { fatal: true })

const json = Effect.gen(function* () {
  const request = yield* HttpServerRequest.HttpServerRequest
  const { bodyLimit } = yield* Options
  const {
    "content-type": type = "",
    "content-encoding": encoding = "identity",
    "content-length": length,
  } = request.headers
  // A form or plain text is what a page of another origin may send without being asked: not from here.
  if (!/^application\/(\w+\+)?json\s*(;|$)/i.test(type)) {
    return yield* apiError(
      415,
      "unsupported_content_type",
      "the body has to be JSON: send content-type: application/json",
    )
  }
  if (encoding !== "identity") {
    return yield* apiError(415, "unsupported_encoding", "the body must not be compressed: leave content-encoding out")
  }
  if (Number(length) > bodyLimit) return yield* tooLarge(bodyLimit)
  const bytes = yield* request.arrayBuffer.pipe(
    Effect.provideService(HttpServerRequest.MaxBodySize, BigInt(bodyLimit)),
    Effect.mapError((error) => (isOverflow(error) ? tooLarge(bodyLimit) : unreadable("it ended too early"))),
  )
  return yield* Effect.try({
    try: (): unknown => JSON.parse(utf8.decode(bytes)),
    catch: (error) => unreadable(error instanceof Error ? error.message.slice(0, 200) : "not JSON"),
  })
})

const unreadable = (reason: string): ApiError =>
  apiError(400, "invalid_json", `the body is not JSON in UTF-8: ${reason}`)

const tooLarge = (bytes: number): ApiError =>
  apiError(413, "body_too_large", `the body has more than ${bytes} bytes, this gateway's limit. Send less.`)

const isOverflow = ({ reason }: HttpServerError.HttpServerError): boolean =>
  reason._tag === "RequestParseError" && reason.reason === "BodyTooLarge"

const format = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) => {
    if (issue._tag === "UnexpectedKey") return "is not known or not supported here. Leave it out"
    if (issue._tag === "MissingKey") return "is missing"
    return SchemaIssue.defaultLeafHook(issue)
  },
})

const refusalOf = (issue: SchemaIssue.Issue): ApiError => {
  const [first] = format(issue).issues
  const reason = (first?.message ?? "is not valid").replace(/^Expected/, "expected").slice(0, 500)
  return invalid(paramOf(first?.path ?? []), reason)
}

/** messages, 0, content: messages[0].content. */
const paramOf = (path: ReadonlyArray<unknown>): string => {
  const param = path.map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`)).join("")
  return param === "" ? "body" : param.replace(/^\./, "").slice(0, 200)
}

// The body of a request: JSON of a schema, or the reason why it is not, by the field that is wrong. What a field may hold is
// the schema's alone.
import { Effect, Result, Schema, SchemaIssue } from "effect"
import { HttpServerRequest } from "effect/http"
import { content, unreadable } from "./content.ts"
import { type ApiError, apiError, invalid } from "./errors.ts"
import { Strangers, strangersIn } from "./strangers.ts"

export const body = <S extends Schema.ConstraintDecoder<unknown, never>>(schema: S) => {
  const decode = Schema.decodeUnknownResult(schema)
  return Effect.gen(function* () {
    const value = yield* json
    const decoded = decode(value)
    if (Result.isFailure(decoded)) return yield* refusalOf(decoded.failure.issue)
    yield* (yield* Strangers).meet(strangersIn(value, decoded.success))
    return decoded.success
  })
}

const utf8 = new TextDecoder("utf-8", { fatal: true })

const json = Effect.gen(function* () {
  const { "content-type": type = "" } = (yield* HttpServerRequest.HttpServerRequest).headers
  // A form or plain text is what a page of another origin may send without being asked: not from here.
  if (!/^application\/(\w+\+)?json\s*(;|$)/i.test(type)) {
    const reason = "the body has to be JSON: send content-type: application/json"
    return yield* apiError(415, "unsupported_content_type", reason)
  }
  const bytes = yield* content
  return yield* Effect.try({
    try: (): unknown => parse(utf8.decode(bytes)),
    catch: (error) => unreadable(error instanceof Error ? error.message.slice(0, 200) : "not JSON"),
  })
})

/** A seed has 64 bits and a number 53: one that a number cannot hold is a bigint. Looked for where there may be one. */
const parse = (text: string): unknown =>
  /"seed"\s*:\s*-?\d{16}/.test(text) ? JSON.parse(text, exactSeed) : JSON.parse(text)

/** ECMAScript's source text access: what stands in the JSON for a value. The types of the language do not know it yet. */
function exactSeed(this: unknown, key: string, value: unknown, ...[context]: ReadonlyArray<unknown>): unknown {
  if (key !== "seed" || typeof value !== "number" || Number.isSafeInteger(value)) return value
  const source = typeof context === "object" && context !== null && "source" in context ? String(context.source) : ""
  return /^-?\d{1,20}$/.test(source) ? BigInt(source) : value
}

const format = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) => (issue._tag === "MissingKey" ? "is missing" : SchemaIssue.defaultLeafHook(issue)),
})

const refusalOf = (issue: SchemaIssue.Issue): ApiError => {
  const { path, message } = reasonOf(issue, [])
  return invalid(paramOf(path), message.replace(/^Expected/, "expected").slice(0, 500))
}

interface Reason {
  readonly path: ReadonlyArray<PropertyKey>
  readonly message: string
}

/**
 * The words that a schema has for it, wherever they are on the way to what is wrong. The library's own formatter passes
 * over those of a union. Of a union's members the one counts that was wrong deepest within: the others were not meant.
 */
const reasonOf = (issue: SchemaIssue.Issue, path: Reason["path"]): Reason => {
  switch (issue._tag) {
    case "Pointer":
      return reasonOf(issue.issue, [...path, ...issue.path])
    case "Composite":
      return reasonOf(issue.issues[0], path)
    case "AnyOf":
      return reasonOfUnion(issue, path)
    default: {
      const [first] = format(issue).issues
      return { path: [...path, ...pathOf(first?.path)], message: first?.message ?? "is not valid" }
    }
  }
}

const reasonOfUnion = (issue: SchemaIssue.AnyOf, path: Reason["path"]): Reason => {
  const reasons = issue.issues.map((member) => reasonOf(member, path))
  const deepest = reasons.reduce<Reason | null>(
    (best, one) => (one.path.length > (best?.path.length ?? path.length) ? one : best),
    null,
  )
  if (deepest !== null) return deepest
  const message = [issue.ast, ...issue.ast.types].map(({ annotations }) => annotations?.message).find(isText)
  if (message !== undefined) return { path, message }
  return reasons[0] ?? { path, message: format(issue).issues[0]?.message ?? "is not valid" }
}

const isText = (value: unknown): value is string => typeof value === "string"

const pathOf = (path: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> = []): Reason["path"] =>
  path.map((step) => (typeof step === "object" ? step.key : step))

/** messages, 0, content: messages[0].content. */
const paramOf = (path: Reason["path"]): string => {
  const param = path.map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`)).join("")
  return param === "" ? "body" : param.replace(/^\./, "").slice(0, 200)
}

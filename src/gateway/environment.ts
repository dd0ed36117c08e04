// A gateway's options, as its environment gives them. Each has a default, so a URL of NATS is enough.
import { readFileSync } from "node:fs"
import { Result, Schema } from "effect"
import { ENVIRONMENT, HTTP_ENVIRONMENT } from "../wire/deployment.ts"
import { type BadEnvironment, badEnvironment, decodeEnvironment } from "../wire/environment.ts"
import { type ApiKey, parseKeys } from "./keys.ts"
import type { GatewayOptions } from "./options.ts"

const between = (minimum: number, maximum: number) =>
  Schema.NumberFromString.pipe(Schema.check(Schema.isBetween({ minimum, maximum })))
const integer = (minimum: number, maximum: number) =>
  Schema.optionalKey(between(minimum, maximum).pipe(Schema.check(Schema.isInt())))

const ACTOR = "a gateway"

const Environment = Schema.Struct({
  [ENVIRONMENT.nats]: Schema.NonEmptyString,
  [HTTP_ENVIRONMENT.host]: Schema.optionalKey(Schema.NonEmptyString),
  [HTTP_ENVIRONMENT.port]: integer(0, 65_535),
  [HTTP_ENVIRONMENT.keys]: Schema.optionalKey(Schema.String),
  [HTTP_ENVIRONMENT.keysFile]: Schema.optionalKey(Schema.NonEmptyString),
  [HTTP_ENVIRONMENT.rateLimit]: integer(1, 1_000_000),
  [HTTP_ENVIRONMENT.timeout]: Schema.optionalKey(between(0.001, 86_400)),
  [HTTP_ENVIRONMENT.bodyLimit]: integer(1_024, 2 ** 30),
  [HTTP_ENVIRONMENT.keepAlive]: Schema.optionalKey(between(0.001, 86_400)),
  [HTTP_ENVIRONMENT.corsOrigins]: Schema.optionalKey(Schema.String),
  [HTTP_ENVIRONMENT.strict]: Schema.optionalKey(Schema.Literals(["0", "1"])),
})

const DEFAULTS = { host: "127.0.0.1", port: 8080, timeoutSeconds: 600, bodyLimit: 2 ** 20, keepAliveSeconds: 15 }

export const readEnvironment = (environment: NodeJS.ProcessEnv): Result.Result<GatewayOptions, BadEnvironment> => {
  const decoded = decodeEnvironment(ACTOR, Environment, environment)
  if (Result.isFailure(decoded)) return Result.fail(decoded.failure)
  const given = decoded.success
  const keys = keysOf(given[HTTP_ENVIRONMENT.keys], given[HTTP_ENVIRONMENT.keysFile])
  return Result.map(keys, (keys) => ({
    keys,
    url: given[ENVIRONMENT.nats],
    host: given[HTTP_ENVIRONMENT.host] ?? DEFAULTS.host,
    port: given[HTTP_ENVIRONMENT.port] ?? DEFAULTS.port,
    requestsPerMinute: given[HTTP_ENVIRONMENT.rateLimit] ?? null,
    requestMillis: (given[HTTP_ENVIRONMENT.timeout] ?? DEFAULTS.timeoutSeconds) * 1000,
    bodyLimit: given[HTTP_ENVIRONMENT.bodyLimit] ?? DEFAULTS.bodyLimit,
    keepAliveMillis: (given[HTTP_ENVIRONMENT.keepAlive] ?? DEFAULTS.keepAliveSeconds) * 1000,
    corsOrigins: listOf(given[HTTP_ENVIRONMENT.corsOrigins]),
    strict: given[HTTP_ENVIRONMENT.strict] === "1",
  }))
}

/** From both; a file that cannot be read or has no key must not let every client in. */
const keysOf = (list = "", file?: string): Result.Result<ReadonlyArray<ApiKey>, BadEnvironment> => {
  const own = parseKeys(list.replaceAll(",", "\n"))
  if (file === undefined) return Result.succeed(own)
  try {
    const filed = parseKeys(readFileSync(file, "utf8"))
    return filed.length === 0 ? bad(`${file} has no API key: put one on a line`) : Result.succeed([...own, ...filed])
  } catch (error) {
    return bad(`cannot read the API keys: ${error instanceof Error ? error.message : error}`)
  }
}

const listOf = (text = ""): ReadonlyArray<string> =>
  text
    .split(",")
    .map((one) => one.trim())
    .filter((one) => one !== "")

const bad = (reason: string) => badEnvironment(ACTOR, reason)

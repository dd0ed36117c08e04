// Unknown fields: neither OpenAI's nor another server's. They are left alone, but not without a word: the answer
// names them, and so does the log, once each. A gateway may be started to refuse them.
import { Context, Effect, Layer } from "effect"
import { HttpEffect, type HttpServerRequest, HttpServerResponse } from "effect/http"
import { type ApiError, invalid } from "./errors.ts"
import { Options } from "./options.ts"

export const IGNORED = "x-chorus-ignored"

/** Of one request, of a name, and of a gateway's log. */
const MOST_NAMES = 16
const MOST_CHARACTERS = 64
const MOST_LOGGED = 256

export class Strangers extends Context.Service<
  Strangers,
  {
    /** Fails for the first of the names where the gateway is strict. */
    readonly meet: (names: ReadonlyArray<string>) => Effect.Effect<void, ApiError, HttpServerRequest.HttpServerRequest>
  }
>()("chorus/gateway/Strangers") {
  static readonly layer = Layer.effect(
    this,
    Effect.suspend(() => open()),
  )
}

const open = Effect.fnUntraced(function* () {
  const { strict } = yield* Options
  const logged = new Set<string>()
  const log = (name: string) => {
    if (logged.has(name) || logged.size === MOST_LOGGED) return Effect.void
    logged.add(name)
    return Effect.logWarning(`requests have a field that is not known here and is ignored: ${name}`)
  }
  return Strangers.of({
    meet: Effect.fnUntraced(function* (names) {
      const [first] = names
      if (first === undefined) return
      if (strict) return yield* invalid(first, "is not known here, and this gateway is strict. Leave it out")
      const all = names.length > MOST_NAMES ? [...names.slice(0, MOST_NAMES), "..."] : names
      yield* HttpEffect.appendPreResponseHandler((_, response) =>
        Effect.succeed(HttpServerResponse.setHeader(response, IGNORED, all.join(", "))),
      )
      yield* Effect.forEach(names, log, { discard: true })
    }),
  })
})

/** The fields of a value that its decoding has left out, each once: `tempo`, `messages[].mood`. */
export const strangersIn = (given: unknown, decoded: unknown): ReadonlyArray<string> => [
  ...new Set(leftOut(given, decoded, "")),
]

const leftOut = (given: unknown, decoded: unknown, path: string): ReadonlyArray<string> => {
  if (given === decoded || !isObject(given) || !isObject(decoded)) return []
  if (Array.isArray(given)) return given.flatMap((one, i) => leftOut(one, Reflect.get(decoded, i), `${path}[]`))
  return Object.entries(given).flatMap(([key, value]) => {
    const name = `${path}${path === "" ? "" : "."}${printable(key)}`
    return Object.hasOwn(decoded, key) ? leftOut(value, Reflect.get(decoded, key), name) : [name]
  })
}

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null

/** As a header can hold it. */
const printable = (name: string): string =>
  encodeURIComponent(name.slice(0, MOST_CHARACTERS).toWellFormed()).slice(0, MOST_CHARACTERS)

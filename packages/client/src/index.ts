// The public face of the client: promises and async iterators, and no type of another package. What it does is
// src/client; effect.ts is the same for programs that are written with effect.
import "./runtime.ts"
import { type Client, connect as connectTo } from "../../../src/client/index.ts"
import { InferRequest } from "../../../src/wire/infer.ts"
import { isName } from "../../../src/wire/subjects.ts"
import type { ServedModel } from "./answer.ts"
import { invalid } from "./errors.ts"
import type { Generation } from "./generation.ts"
import { generationOf, type Opened } from "./reader.ts"
import type { GenerateRequest } from "./request.ts"

export type * from "./answer.ts"
export {
  ActivationFailed,
  BadKey,
  type ChorusError,
  ClientLimited,
  ContextExceeded,
  Disconnected,
  type ErrorClass,
  InvalidRequest,
  isChorusError,
  MalformedMessage,
  NatsRefused,
  NatsUntrusted,
  NoAnswer,
  NoPlacement,
  NotServed,
  Overloaded,
  SessionExpired,
  SessionFailed,
  StorageRefused,
  UnknownDeployment,
} from "./errors.ts"
export type { Generation } from "./generation.ts"
export type * from "./request.ts"

export interface ConnectOptions {
  /** NATS servers of one cluster: nats://host:port. */
  readonly servers: string | ReadonlyArray<string>
  /** Who answers requests that name no deployment. */
  readonly deployment?: string
  /** Folder with the key to show and the certificate to trust, as `chorus keys` makes it; by default CHORUS_NATS_KEYS says. */
  readonly keys?: string
}

export interface GenerateOptions {
  /** Cancels the session. The iteration and the promise reject with the signal's reason. */
  readonly signal?: AbortSignal
  /** Hears how far the ranks are, from 0 to 1, while the session waits for them to start. */
  readonly activating?: (fraction: number) => void
  /** Names the request in the supervisor's log. */
  readonly requestId?: string
  /** W3C trace context: the session's spans are below that one. */
  readonly traceparent?: string
}

export interface ResumeOptions {
  /** Whose session it is; by default the one that `connect` was given. */
  readonly deployment?: string
  /** Position of the first token wanted: 0, the default, is the answer's first. */
  readonly from?: number
  /** Ends the reading; the session goes on. */
  readonly signal?: AbortSignal
}

/** A connection to what Chorus serves on NATS. It outlives restarts of the server. */
export interface Chorus extends AsyncDisposable {
  /**
   * Asks for an answer. Leaving its iteration before the end cancels it: to leave it running, keep the session's id.
   *
   * @example
   * ```ts
   * const answer = chorus.generate({ prompt: "export class", maxTokens: 40 })
   * for await (const text of answer.text) process.stdout.write(text)
   * const { stats } = await answer
   * ```
   */
  readonly generate: (request: GenerateRequest, options?: GenerateOptions) => Generation
  /**
   * Reads a session that was accepted before, by whatever process, from any of its tokens on. Leaving it does not end the
   * session. Where `from` is given, the answer's text and tokens are those from there on.
   */
  readonly resume: (session: string, options?: ResumeOptions) => Generation
  /** What is served now, by any deployment. */
  readonly models: () => Promise<ReadonlyArray<ServedModel>>
  readonly close: () => Promise<void>
}

/**
 * Connects. Rejects with Disconnected where no server is reached, with NatsRefused or NatsUntrusted where it is and there is
 * no way in.
 *
 * @example
 * ```ts
 * const chorus = await connect({ servers: "nats://127.0.0.1:4222", deployment: "demo" })
 * ```
 */
export const connect = async ({ servers, deployment, keys }: ConnectOptions): Promise<Chorus> => {
  const url = typeof servers === "string" ? servers : servers?.join(",")
  if (typeof url !== "string" || url === "") throw invalid("servers", "name at least one: nats://host:port")
  const client = await connectTo({ url, deployment: deployment ?? "", keys: keys ?? null })
  const at = (named: string | undefined): Client => {
    const name = named ?? deployment
    if (name === undefined) throw invalid("deployment", "name it in the request, or in connect(); models() lists them")
    if (!isName(name)) throw invalid("deployment", `is ${JSON.stringify(name)}; expected letters, digits, - and _`)
    return client.of(name)
  }
  const cancel = (of: string | undefined) => (session: string) => at(of).cancel(session)
  return {
    generate: (request, options = {}) =>
      generationOf({
        open: () => ask(request, options, at),
        cancel: cancel(request?.deployment),
        left: cancel(request?.deployment),
        signal: options.signal,
      }),
    resume: (session, options = {}) => {
      const leaving = new AbortController()
      const signal = options.signal === undefined ? leaving.signal : AbortSignal.any([options.signal, leaving.signal])
      return generationOf({
        open: () => find(session, { ...options, signal }, at),
        cancel: cancel(options.deployment),
        left: () => leaving.abort(),
        signal,
      })
    },
    models: () => client.models(),
    close: () => client.close(),
    [Symbol.asyncDispose]: () => client.close(),
  }
}

type At = (deployment: string | undefined) => Client

const ask = async (request: GenerateRequest, options: GenerateOptions, at: At): Promise<Opened> => {
  const { deployment, seed, ...rest } = checked(request)
  const asked = { ...rest, ...(seed === undefined ? {} : { seed: seedOf(seed) }) }
  const generation = await at(deployment).generate(asked, options)
  return { known: generation, reading: generation, from: 0 }
}

const find = async (session: string, { deployment, from = 0, signal }: ResumeOptions, at: At): Promise<Opened> => {
  if (!Number.isSafeInteger(from) || from < 0) throw invalid("from", `is ${from}; expected a position: 0, 1, 2, ...`)
  const client = at(deployment)
  const known = await client.find(session)
  return { known, reading: client.stream(session, { from, ...(signal === undefined ? {} : { signal }) }), from }
}

const FIELDS = ["deployment", ...Object.keys(InferRequest.fields).filter((field) => field !== "stream")]

/** Programs without types misspell fields, and a field that is passed over is an answer that was not asked for. */
const checked = (request: GenerateRequest): GenerateRequest => {
  if (typeof request !== "object" || request === null) throw invalid("request", "expected an object")
  const unknown = Object.keys(request).find((field) => !FIELDS.includes(field))
  if (unknown !== undefined) throw invalid(unknown, `there is no such field. There are: ${FIELDS.join(", ")}`)
  return request
}

const seedOf = (seed: number | bigint): bigint => {
  if (typeof seed === "bigint") return seed
  if (!Number.isSafeInteger(seed) || seed < 0) throw invalid("seed", `is ${seed}; expected an integer, 0 or more`)
  return BigInt(seed)
}

// The client: connect, generate, read the tokens as they come, come back to a stream, cancel. Promises and async iterators;
// errors are tagged: the wire's, and those of errors.ts. effect.ts is the same as a service with streams.
import { type NatsConnection, TimeoutError } from "@nats-io/transport-node"
import { Result } from "effect"
import { accessOf } from "../bus/access.ts"
import { insist, onEvent } from "../bus/connection.ts"
import { dial, NatsUnreachable } from "../bus/dial.ts"
import { hedged } from "../bus/hedged.ts"
import { type Origin, originHeaders } from "../bus/telemetry.ts"
import { codec } from "../wire/codec.ts"
import { MalformedMessage } from "../wire/errors.ts"
import { type Answer, InferAnswer, InferRequest, type SampledWith, SessionProgress } from "../wire/infer.ts"
import type { Role } from "../wire/permissions.ts"
import { subjectsOf } from "../wire/subjects.ts"
import { Disconnected, NoAnswer, typed } from "./errors.ts"
import { type ServedModel, servedModels } from "./models.ts"
import { beginningOf, type From, type Reading, read } from "./reading.ts"

export type {
  EndToken,
  FinishReason,
  GenerationStats,
  InferRequest,
  LoggedToken,
  PromptToken,
  SampledWith,
} from "../wire/infer.ts"
export type { Ending } from "./reading.ts"

const requests = codec("infer request", InferRequest)
const answers = codec("infer answer", InferAnswer)
const progresses = codec("session progress", SessionProgress)

/** A supervisor accepts or refuses at once; tokenizing a long prompt takes it a moment. */
const ACCEPT_MILLIS = 10_000
const HEDGE = { afterMillis: 2_500, withinMillis: ACCEPT_MILLIS }

/** A server that is back is found at once; one that hangs is left after some seconds. */
const RECONNECTING = {
  ...{ maxReconnectAttempts: -1, reconnectTimeWait: 250, reconnectJitter: 250, pingInterval: 5_000, maxPingOut: 2 },
} as const

export interface ClientOptions {
  readonly url: string
  readonly deployment: string
  /** Folder with the key to show, and the certificate to trust; by default CHORUS_NATS_KEY and CHORUS_NATS_KEYS say. */
  readonly keys?: string | null
  readonly role?: Role // "client" by default
}

/** `requestId` names the request in the supervisor's log; with `traceparent` the session's spans are below that one. */
export interface GenerateOptions extends Origin {
  /** Cancels the session: it ends within one pass, with finish reason "cancelled". */
  readonly signal?: AbortSignal
  /** Hears how far the ranks are, from 0 to 1, while the session waits for them to start. */
  readonly activating?: (fraction: number) => void
}

export interface StreamOptions {
  /** "start" (default), "live", or the position of the first token wanted: 0 is the answer's first. */
  readonly from?: From
  /** Leaves the stream; the session goes on. The iteration throws the signal's reason. */
  readonly signal?: AbortSignal
}

/** A session that was accepted. Leaving its iteration does not cancel it: `stream` finds it again. */
export interface Generation extends Reading {
  readonly session: string
  readonly promptTokens: number
  readonly seed: bigint
  readonly sampling: SampledWith | null // null where its log does not say
  readonly cancel: () => void
}

/** The whole answer, and what the session was. */
export interface Completion extends Answer {
  readonly session: string
  readonly promptTokens: number
  readonly seed: bigint
  readonly sampling: SampledWith | null
}

export interface Client extends AsyncDisposable {
  readonly connection: NatsConnection
  /** Rejects with the wire's error where the request is refused, with NotServed where no supervisor answers. */
  readonly generate: (request: InferRequest, options?: GenerateOptions) => Promise<Generation>
  /** All of it, when it has ended; read from the log like any stream, so a supervisor that is lost meanwhile does not lose the answer. */
  readonly complete: (request: InferRequest, options?: GenerateOptions) => Promise<Completion>
  /** A session that was accepted before, by whomever, from its first token on. Throws SessionExpired where there is none. */
  readonly find: (session: string) => Promise<Generation>
  /** The tokens of any session, as often as wanted. Throws SessionExpired where there are none to read. */
  readonly stream: (session: string, options?: StreamOptions) => Reading
  readonly cancel: (session: string) => void
  /** What is served on this connection, by any deployment. */
  readonly models: () => Promise<ReadonlyArray<ServedModel>>
  /** Another deployment over the same connection. */
  readonly of: (deployment: string) => Client
  readonly close: () => Promise<void>
}

/**
 * const client = await connect({ url: "nats://127.0.0.1:4222", deployment: "demo" })
 * for await (const { text } of await client.generate({ prompt: "export class" })) process.stdout.write(text)
 */
export const connect = async ({ url, deployment, keys = null, role = "client" }: ClientOptions): Promise<Client> => {
  const access = accessOf(role, keys, process.env)
  const connection = await dial({ url, access, name: "chorus client", ...RECONNECTING }).catch((error: unknown) => {
    throw error instanceof NatsUnreachable ? new Disconnected({ url, reason: error.reason }) : error
  })
  return over({ connection, url }, deployment)
}

interface Line {
  readonly connection: NatsConnection
  readonly url: string
}

const over = (line: Line, deployment: string): Client => {
  const { connection, url } = line
  const subjects = subjectsOf(deployment)
  const cancel = (session: string): void => void insist(connection, subjects.cancel(session))
  const generate = async (request: InferRequest, options: GenerateOptions = {}): Promise<Generation> => {
    const { signal, activating } = options
    signal?.throwIfAborted()
    const answer = await ask(line, deployment, { ...request, stream: true }, options)
    if (answer._tag !== "Accepted") throw unexpected("Accepted", answer)
    const { session, promptTokens, seed, sampling = null } = answer
    const abort = (): void => cancel(session)
    if (signal?.aborted) abort()
    signal?.addEventListener("abort", abort, { once: true })
    const progress = activating && hearProgress(connection, subjects.progress(session), activating)
    const { interestMillis } = request
    const reading = read({
      ...{ connection, url, deployment, session, from: "start", begun: { interestMillis } },
      ended: () => {
        signal?.removeEventListener("abort", abort)
        progress?.unsubscribe()
      },
    })
    return { session, promptTokens, seed, sampling, cancel: abort, ...reading }
  }
  const find = async (session: string): Promise<Generation> => {
    const place = { connection, url, deployment, session }
    const begun = await beginningOf(place)
    const { promptTokens, seed, sampling = null } = begun
    const known = { session, promptTokens, seed, sampling, cancel: () => cancel(session) }
    return { ...known, ...read({ ...place, from: "start", begun }) }
  }
  const complete = async (request: InferRequest, options: GenerateOptions = {}): Promise<Completion> => {
    const generation = await generate(request, options)
    const { session, promptTokens, seed, sampling } = generation
    return { session, promptTokens, seed, sampling, ...(await generation.ending()) }
  }
  const close = (): Promise<void> => connection.close()
  return {
    ...{ connection, generate, complete, find, cancel, close, [Symbol.asyncDispose]: close },
    stream: (session, { from = "start", signal } = {}) =>
      read({ ...{ connection, url, deployment, session, from }, ...(signal === undefined ? {} : { signal }) }),
    models: () => servedModels(connection),
    of: (other) => over(line, other),
  }
}

const hearProgress = (connection: NatsConnection, subject: string, activating: (fraction: number) => void) =>
  connection.subscribe(subject, {
    callback: (error, { data }) => {
      const heard = error === null ? progresses.decode(data) : null
      if (heard !== null && Result.isSuccess(heard)) activating(heard.success.fraction)
    },
  })

/** One request and its answer; what refuses it is thrown. */
const ask = async (line: Line, deployment: string, request: InferRequest, origin: Origin) => {
  const { connection, url } = line
  const subjects = subjectsOf(deployment)
  const message = Result.getOrThrow(requests.tryEncode(request))
  const limit = connection.info?.max_payload ?? Number.POSITIVE_INFINITY
  if (message.byteLength > limit) {
    const reason = `has ${message.byteLength} bytes, ${url} takes ${limit}. Shorten the prompt`
    throw new MalformedMessage({ kind: "infer request", field: "message", reason })
  }
  let unwatch = (): void => {}
  const gone = new Promise<never>((_, reject) => {
    const lost = new Disconnected({ url, reason: "it went while an answer was waited for. Ask again" })
    unwatch = onEvent(connection, () => reject(lost))
  })
  try {
    const headers = originHeaders(origin)
    const options = headers === undefined ? {} : { headers }
    const once = (timeout: number) => connection.request(subjects.infer, message, { timeout, ...options })
    const { data } = await hedged({ ...HEDGE, gone }, once, (late) => {
      const answer = answers.decode(late.data)
      if (Result.isSuccess(answer) && answer.success._tag === "Accepted") {
        void insist(connection, subjects.cancel(answer.success.session))
      }
    })
    const answer = Result.getOrThrow(answers.decode(data))
    if (answer._tag === "Refused") throw answer.error
    return answer
  } catch (error) {
    if (error instanceof TimeoutError) throw new NoAnswer({ deployment, millis: ACCEPT_MILLIS })
    throw typed(error, { url, deployment })
  } finally {
    unwatch()
  }
}

const unexpected = (expected: string, { _tag }: InferAnswer) =>
  new MalformedMessage({ kind: "infer answer", field: "_tag", reason: `expected ${expected}, got ${_tag}` })

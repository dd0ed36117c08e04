// The client: connect, generate, read the tokens as they come, cancel. Promises and async iterators; errors are the wire's.
import { connect as dial, type NatsConnection, RequestError } from "@nats-io/transport-node"
import { Result, Schema } from "effect"
import { traceHeaders } from "../fabric/telemetry.ts"
import { follow } from "../fabric/tokenLog.ts"
import { codec } from "../wire/codec.ts"
import { Cancelled, type InferError, MalformedMessage } from "../wire/errors.ts"
import { type FinishReason, type GenerationStats, InferAnswer, InferRequest, type LoggedToken } from "../wire/infer.ts"
import { subjectsOf } from "../wire/subjects.ts"

export type { FinishReason, GenerationStats, InferRequest, LoggedToken } from "../wire/infer.ts"

const requests = codec("infer request", InferRequest)
const answers = codec("infer answer", InferAnswer)

/** A supervisor accepts or refuses at once; tokenizing a long prompt takes it a moment. */
const ACCEPT_MILLIS = 10_000

const WHOLE = { kind: "infer answer", field: "_tag", reason: "expected Accepted of a request with stream" }

/** No supervisor of that deployment listens. */
export class NotServed extends Schema.TaggedError<NotServed>()("NotServed", {
  deployment: Schema.String,
  url: Schema.String,
}) {
  override get message() {
    return `nobody serves ${this.deployment} at ${this.url}. \`chorus up --name ${this.deployment}\` does.`
  }
}

export interface ClientOptions {
  readonly url: string
  readonly deployment: string
}

export interface GenerateOptions {
  /** Cancels the session: it ends within one pass, with finish reason "cancelled". */
  readonly signal?: AbortSignal
  /** W3C Trace Context of the span that asks: the session's spans are below it where the supervisor traces. */
  readonly traceparent?: string
}

export interface Ending {
  readonly text: string
  readonly tokens: ReadonlyArray<number>
  readonly finishReason: FinishReason
  readonly error: string // why it failed; empty otherwise
  readonly stats: GenerationStats
}

/** A session that was accepted. Iterate over it for the tokens as they come, or wait for `ending`; once either way. */
export interface Generation extends AsyncIterable<LoggedToken> {
  readonly session: string
  readonly promptTokens: number
  readonly seed: bigint
  /** Everything at once, when it has ended. Reads the log unless an iteration does. */
  readonly ending: () => Promise<Ending>
  readonly cancel: () => void
}

export interface Client extends AsyncDisposable {
  readonly connection: NatsConnection
  /** Rejects with the wire's error where the request is refused, with NotServed where nobody answers. */
  readonly generate: (request: InferRequest, options?: GenerateOptions) => Promise<Generation>
  readonly close: () => Promise<void>
}

/**
 * const client = await connect({ url: "nats://127.0.0.1:4222", deployment: "demo" })
 * for await (const { text } of await client.generate({ prompt: "export class" })) process.stdout.write(text)
 */
export const connect = async ({ url, deployment }: ClientOptions): Promise<Client> => {
  const connection = await dial({ servers: url.split(","), name: "chorus client", maxReconnectAttempts: -1 })
  const subjects = subjectsOf(deployment)
  const ask = async (request: InferRequest, traceparent?: string) => {
    const message = Result.getOrThrow(requests.tryEncode({ ...request, stream: true }))
    try {
      const headers = traceHeaders(traceparent)
      return await connection.request(subjects.infer, message, { timeout: ACCEPT_MILLIS, ...(headers && { headers }) })
    } catch (error) {
      throw error instanceof RequestError && error.isNoResponders() ? new NotServed({ deployment, url }) : error
    }
  }
  const generate = async (
    request: InferRequest,
    { signal, traceparent }: GenerateOptions = {},
  ): Promise<Generation> => {
    signal?.throwIfAborted()
    const answer = Result.getOrThrow(answers.decode((await ask(request, traceparent)).data))
    if (answer._tag === "Refused") throw answer.error satisfies InferError
    if (answer._tag === "Answered") throw new MalformedMessage(WHOLE)
    const { session, subject, promptTokens, seed } = answer
    const cancel = (): void => connection.publish(subjects.cancel(session))
    if (signal?.aborted) cancel()
    signal?.addEventListener("abort", cancel, { once: true })
    const reading = read(connection, subject, () => signal?.removeEventListener("abort", cancel))
    return {
      ...{ session, promptTokens, seed, cancel },
      [Symbol.asyncIterator]: () => reading.tokens,
      ending: async () => {
        for await (const _ of reading.tokens); // what is left of it
        return reading.ending() ?? Promise.reject(new Cancelled({ session }))
      },
    }
  }
  const close = () => connection.close()
  return { connection, generate, close, [Symbol.asyncDispose]: close }
}

/** One reading of a log: its tokens, and what is known at the end. */
const read = (connection: NatsConnection, subject: string, ended: () => void) => {
  const ids: Array<number> = []
  let text = ""
  let ending: Ending | undefined
  async function* tokens(): AsyncGenerator<LoggedToken, void, void> {
    try {
      for await (const { entry } of follow(connection, subject)) {
        if (entry._tag === "Tokens") {
          for (const token of entry.tokens) {
            ids.push(token.id)
            text += token.text
            yield token
          }
        } else {
          const { finishReason, error, stats } = entry
          text += entry.text
          ending = { text, tokens: ids, finishReason, error, stats }
          if (entry.text !== "") yield { id: -1, text: entry.text, origin: "plain" }
        }
      }
    } finally {
      ended()
    }
  }
  return { tokens: tokens(), ending: () => ending }
}

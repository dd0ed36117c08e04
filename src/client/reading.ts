// One reading of a session's token log: its tokens in order, each once, from a position on; and while it lasts, the message
// that the session is read. A server that restarts meanwhile makes it wait and nothing else.
import type { NatsConnection } from "@nats-io/transport-node"
import { insist } from "../bus/connection.ts"
import { entryAt, follow } from "../store/logReader.ts"

import { SessionExpired } from "../wire/errors.ts"
import {
  type Answer,
  type LogEntry,
  type LoggedToken,
  logProbsOf,
  type PromptToken,
  type TokenLogProbs,
} from "../wire/infer.ts"
import { subjectsOf } from "../wire/subjects.ts"
import { Disconnected, typed } from "./errors.ts"
import { Position } from "./position.ts"

export type Ending = Answer

/** Iterate over it for the tokens as they come, or wait for `ending`; once either way. */
export interface Reading extends AsyncIterable<LoggedToken> {
  /** The prompt's tokens, where its log-probabilities were asked for: known when the first token of the answer has come, or the end. */
  readonly prompt: () => ReadonlyArray<PromptToken>
  /** Everything at once, when the session has ended. Reads what an iteration has left. */
  readonly ending: () => Promise<Ending>
}

/** Of the answer's first token: the position 0. "live" leaves out what is there already. */
export type From = number | "start" | "live"

export interface Readable {
  readonly connection: NatsConnection
  readonly url: string
  readonly deployment: string
  readonly session: string
  readonly from: From
  /** What is known of a session's beginning: it is there, and readers say so often that they read. */
  readonly begun?: { readonly interestMillis?: number | undefined }
  readonly signal?: AbortSignal // ends the reading
  readonly ended?: () => void
}

/** Of the time that a session waits for its readers: two messages may be lost. */
const SHARE_OF_INTEREST = 1 / 3

export const read = (of: Readable): Reading => {
  const leaving = new AbortController()
  const leave = (): void => leaving.abort()
  const gathered = new Gathered()
  const tokens = tokensOf(of, gathered, leaving.signal)
  const iterator: AsyncIterator<LoggedToken, void, void> = {
    next: () => tokens.next(),
    // A generator that waits for a token hears of its end only with the next one.
    return: () => {
      leave()
      return tokens.return()
    },
  }
  return {
    [Symbol.asyncIterator]: () => iterator,
    prompt: () => gathered.prompt,
    ending: async () => {
      while (!(await iterator.next()).done);
      return gathered.ending ?? Promise.reject(new Disconnected({ url: of.url, reason: "the reading was left" }))
    },
  }
}

async function* tokensOf(
  of: Readable,
  gathered: Gathered,
  leaving: AbortSignal,
): AsyncGenerator<LoggedToken, void, void> {
  const { connection, url, session, signal } = of
  const subject = subjectsOf(of.deployment).tokens(session)
  const stopped = signal === undefined ? leaving : AbortSignal.any([leaving, signal])
  let renewing: NodeJS.Timeout | undefined
  try {
    signal?.throwIfAborted()
    const start = await startOf(of, subject)
    renewing = renew(of, start.interestMillis)
    if (start.end !== undefined) return gathered.end(start.end)
    const position = new Position(start.at, start.after === 0)
    for (let gap = true, { after } = start; gap; after = 0) {
      gap = false
      for await (const { entry } of follow(connection, subject, { after, signal: stopped })) {
        const taken = position.take(entry)
        if (taken._tag === "Expired") throw new SessionExpired({ session })
        if (taken._tag === "Gap") {
          gap = true
          break
        }
        if (taken._tag === "End") {
          gathered.end(taken.end)
          if (taken.end.text !== "") yield { id: -1, text: taken.end.text, origin: "plain" }
          return
        }
        if (taken._tag === "Prompt") {
          gathered.prompt.push(...taken.tokens)
          continue
        }
        for (const token of taken.tokens) {
          gathered.token(token)
          yield token
        }
      }
    }
    signal?.throwIfAborted()
    if (leaving.aborted) return
    if (connection.isClosed()) throw new Disconnected({ url, reason: "the client was closed" })
    throw new SessionExpired({ session })
  } catch (error) {
    signal?.throwIfAborted()
    throw typed(error, of)
  } finally {
    clearInterval(renewing)
    of.ended?.()
  }
}

/** The first entry of a session's log. Throws SessionExpired where there is none, or none any more. */
export const beginningOf = async (of: Pick<Readable, "connection" | "url" | "deployment" | "session">) => {
  const { connection, deployment, session } = of
  try {
    const first = await entryAt(connection, subjectsOf(deployment).tokens(session), "first")
    if (first?.entry._tag !== "Begin") throw new SessionExpired({ session })
    return first.entry
  } catch (error) {
    throw typed(error, of)
  }
}

interface Start {
  readonly at: number // position of the first token wanted
  readonly after: number // sequence
  readonly interestMillis: number | undefined
  readonly end?: Extract<LogEntry, { readonly _tag: "End" }> // nothing more will come
}

const startOf = async (of: Readable, subject: string): Promise<Start> => {
  const { connection, session, from, begun } = of
  const at = typeof from === "number" ? from : 0
  if (begun !== undefined) return { at, after: 0, interestMillis: begun.interestMillis }
  const first = await entryAt(connection, subject, "first")
  if (first === null || first.entry.at > at) throw new SessionExpired({ session })
  const interestMillis = first.entry._tag === "Begin" ? first.entry.interestMillis : undefined
  if (from !== "live") return { at, after: 0, interestMillis }
  const last = await entryAt(connection, subject, "last")
  if (last === null) throw new SessionExpired({ session })
  const { entry, sequence } = last
  const end = entry._tag === "End" ? { end: entry } : {}
  const next = entry.at + (entry._tag === "Tokens" ? entry.tokens.length : 0)
  return { at: next, after: sequence, interestMillis, ...end }
}

/** Says that the session is read, from now on. */
const renew = ({ connection, deployment, session }: Readable, interestMillis: number | undefined) => {
  if (interestMillis === undefined) return undefined
  const subject = subjectsOf(deployment).interest(session)
  void insist(connection, subject)
  const say = () => (connection.isClosed() ? undefined : connection.publish(subject))
  return setInterval(say, interestMillis * SHARE_OF_INTEREST).unref()
}

/** What a reading has seen. */
class Gathered {
  readonly #ids: Array<number> = []
  readonly #logProbs: Array<TokenLogProbs> = []
  readonly prompt: Array<PromptToken> = []
  #text = ""
  ending: Ending | undefined

  token(token: LoggedToken): void {
    this.#ids.push(token.id)
    this.#text += token.text
    this.#logProbs.push(...logProbsOf(token))
  }

  end({ text, finishReason, error, stats, endToken }: Extract<LogEntry, { readonly _tag: "End" }>): void {
    this.ending = {
      ...{ text: this.#text + text, tokens: this.#ids, finishReason, error, stats },
      ...(this.#logProbs.length > 0 ? { logProbs: this.#logProbs } : {}),
      ...(endToken === undefined ? {} : { endToken }),
      ...(this.prompt.length > 0 ? { prompt: this.prompt } : {}),
    }
  }
}

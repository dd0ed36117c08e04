// A generation: read as it comes, waited for, or both. One reader takes the tokens from the session's log; whoever iterates
// gets them from its memory, so that several may, and one that waits needs not iterate.
import type { Generation as Accepted } from "../../../src/client/index.ts"
import type { Reading } from "../../../src/client/reading.ts"
import type { Answer, Session, Token } from "./answer.ts"
import { asCaller, failed } from "./errors.ts"
import type { Generation } from "./generation.ts"

/** What is read, and what is known of its session. */
export interface Opened {
  readonly known: Pick<Accepted, "session" | "promptTokens" | "seed" | "sampling">
  readonly reading: Reading
  readonly from: number
}

export interface Reader {
  readonly open: () => Promise<Opened>
  readonly cancel: (session: string) => void
  /** Somebody has left an iteration before its end. */
  readonly left: (session: string) => void
  readonly signal: AbortSignal | undefined
}

export const generationOf = (reader: Reader): Generation => {
  const read = new Read()
  const opened = reader.open()
  const session = opened.then(({ known }): Session => {
    const { session: id, promptTokens, seed, sampling } = known
    return { id, promptTokens, seed, sampling }
  })
  const answer = answerOf(opened, read, reader.signal)
  for (const promise of [session, answer]) promise.catch(() => {}) // heard by whoever asks for them
  const leave = (): void => void session.then(({ id }) => reader.left(id), ignored)
  return {
    session,
    text: { [Symbol.asyncIterator]: () => textOf(read.tokens(leave)) },
    cancel: () => void session.then(({ id }) => reader.cancel(id), ignored),
    // biome-ignore lint/suspicious/noThenProperty: it is awaited like a query of a database
    then: (fulfilled, rejected) => answer.then(fulfilled, rejected),
    [Symbol.asyncIterator]: () => read.tokens(leave),
  }
}

const answerOf = async (opened: Promise<Opened>, read: Read, signal: AbortSignal | undefined): Promise<Answer> => {
  try {
    const { known, reading, from } = await opened
    const { session, promptTokens, seed, sampling } = known
    let position = from
    for await (const token of reading) {
      signal?.throwIfAborted()
      read.take({ ...token, position: token.id < 0 ? position : position++ })
    }
    const { finishReason, error, ...ending } = await reading.ending()
    signal?.throwIfAborted()
    if (finishReason === "failed") throw failed(session, error)
    read.end()
    return { ...ending, session, promptTokens, seed, sampling, finishReason }
  } catch (error) {
    const reason = signal?.aborted ? signal.reason : asCaller(error)
    read.fail(reason)
    throw reason
  }
}

/** The tokens that have come, and who waits for more. */
class Read {
  readonly #tokens: Array<Token> = []
  #state: "reading" | "ended" | { readonly failure: unknown } = "reading"
  #waiting: Array<() => void> = []

  take(token: Token): void {
    this.#tokens.push(token)
    this.#wake()
  }

  end(): void {
    this.#state = "ended"
    this.#wake()
  }

  fail(failure: unknown): void {
    this.#state = { failure }
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake()
  }

  async *tokens(left: () => void): AsyncGenerator<Token, void, void> {
    let whole = false
    try {
      for (let at = 0; ; ) {
        for (; at < this.#tokens.length; at++) yield this.#tokens[at] as Token
        if (this.#state === "ended") break
        if (typeof this.#state === "object") {
          whole = true
          throw this.#state.failure
        }
        await new Promise<void>((wake) => this.#waiting.push(wake))
      }
      whole = true
    } finally {
      if (!whole) left()
    }
  }
}

async function* textOf(tokens: AsyncIterable<Token>): AsyncGenerator<string, void, void> {
  for await (const { text } of tokens) if (text !== "") yield text
}

const ignored = (): void => {}

// One generation of a chaos run over NATS, asked for and read as its scene says, whatever is struck meanwhile: a refusal is asked
// again, a reader that has lost its connection reads on where it was. What each reader has seen is kept for the check.
import type { Client, Ending, InferRequest, LoggedToken } from "../client/index.ts"
import { PATIENCE_MILLIS, pause, within } from "./patience.ts"
import type { Scene } from "./requests.ts"

/** What one reader has seen of a session. */
export interface View {
  readonly reader: string
  readonly from: number // position
  readonly tokens: Array<number>
}

/** What has come of a generation. */
export interface GenerationOutcome {
  readonly number: number
  readonly scene: Scene
  readonly views: ReadonlyArray<View>
  readonly session: string | null // of those that are streamed
  readonly ending: Pick<Ending, "finishReason" | "error"> | null
  readonly text: string | null // of those that are not
  readonly refusals: number // that were asked again
  readonly problem: string | null // why there is no end of it
  /** Times of the first reader's tokens, by performance's clock; the first is that of the acceptance. */
  readonly arrivals: ReadonlyArray<number>
}

export interface Generating {
  readonly clients: readonly [Client, Client] // each with a connection of its own
  readonly request: InferRequest
  readonly scene: Scene
  readonly number: number
  readonly length: number // of the undisturbed answer
}

/** Errors of a request that was not accepted: asked again, it gives the same tokens. */
const REFUSALS = [
  "Overloaded",
  "NotServed",
  "NoAnswer",
  "Disconnected",
  "StorageRefused",
  "NoPlacement",
  "ActivationFailed",
  "GroupSilent",
]

export const generation = async (generating: Generating): Promise<GenerationOutcome> => {
  const one = new One(generating)
  try {
    await (generating.scene.way === "unary" ? one.whole() : one.streamed())
  } catch (error) {
    one.problem = error instanceof Error ? `${"_tag" in error ? `${error._tag}: ` : ""}${error.message}` : String(error)
  }
  return one.outcome()
}

class One {
  readonly #of: Generating
  readonly #views: Array<View> = []
  readonly #arrivals: Array<number> = []
  #session: string | null = null
  #ending: GenerationOutcome["ending"] = null
  #text: string | null = null
  #refusals = 0
  problem: string | null = null

  constructor(of: Generating) {
    this.#of = of
  }

  outcome(): GenerationOutcome {
    const { number, scene } = this.#of
    return {
      ...{ number, scene, views: this.#views, session: this.#session, ending: this.#ending, text: this.#text },
      ...{ refusals: this.#refusals, problem: this.problem, arrivals: this.#arrivals },
    }
  }

  async whole(): Promise<void> {
    const [client] = this.#of.clients
    const answer = await this.#accepted(() => client.complete(this.#of.request))
    this.#ending = answer
    this.#text = answer.text
    this.#views.push({ reader: "its asker", from: 0, tokens: [...answer.tokens] })
  }

  async streamed(): Promise<void> {
    const { clients, request, length, scene } = this.#of
    const session = await this.#accepted(() => clients[0].generate(request))
    this.#session = session.session
    this.#arrivals.push(performance.now())
    const first: View = { reader: "the first reader", from: 0, tokens: [] }
    this.#views.push(first)
    const second = scene.second === null ? null : { reader: "a second reader", from: Math.floor(scene.second * length) }
    const leaving = [...scene.leaves.map((at) => Math.floor(at * length)), Number.POSITIVE_INFINITY]
    let beside: Promise<unknown> = Promise.resolve()
    let reading: Reading = session
    for (const [i, until] of leaving.entries()) {
      const ended = await this.#read(first, reading, until, () => {
        if (this.#arrivals.push(performance.now()) === 2 && second !== null) beside = this.#beside(second)
      })
      if (ended) break
      reading = this.#client(i + 1).stream(session.session, { from: first.tokens.length })
    }
    await beside
  }

  #beside(of: Pick<View, "reader" | "from">): Promise<unknown> {
    const view: View = { ...of, tokens: [] }
    this.#views.push(view)
    const reading = this.#client(1).stream(this.#session ?? "", { from: view.from })
    return this.#read(view, reading, Number.POSITIVE_INFINITY, () => {})
  }

  /** Until the end, or a position; over other connections where one is lost. Gives whether it was the end. */
  async #read(view: View, first: Reading, until: number, seen: () => void): Promise<boolean> {
    let reading = first
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#readOnce(view, reading, until, seen)
      } catch (error) {
        if (!(error instanceof Error && "_tag" in error && error._tag === "Disconnected")) throw error
        await pause()
        reading = this.#client(attempt).stream(this.#session ?? "", { from: view.from + view.tokens.length })
      }
    }
  }

  async #readOnce(view: View, reading: Reading, until: number, seen: () => void): Promise<boolean> {
    const tokens = reading[Symbol.asyncIterator]()
    try {
      while (view.from + view.tokens.length < until) {
        const { value, done } = await within(tokens.next(), `${view.reader} after ${view.tokens.length} tokens`)
        if (done === true) {
          this.#ending = await reading.ending()
          return true
        }
        if (value === undefined || value.id < 0) continue // text that was held back
        view.tokens.push(value.id)
        seen()
      }
      return false
    } finally {
      void tokens.return?.()
    }
  }

  async #accepted<A>(ask: () => Promise<A>): Promise<A> {
    const began = performance.now()
    for (;;) {
      try {
        return await within(ask(), "the asker")
      } catch (error) {
        const refused = error instanceof Error && "_tag" in error && REFUSALS.includes(String(error._tag))
        if (!refused || performance.now() - began > PATIENCE_MILLIS) throw error
        this.#refusals += 1
        await pause()
      }
    }
  }

  #client(attempt: number): Client {
    const [one, other] = this.#of.clients
    return attempt % 2 === 0 ? one : other
  }
}

interface Reading extends AsyncIterable<LoggedToken> {
  readonly ending: () => Promise<Ending>
}

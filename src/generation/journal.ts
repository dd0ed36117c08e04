// What is settled of a generation: the tokens that are in its log, or on their way there. It only grows, and nothing takes
// back what is in it, so all states of a run share it; an activity that fails or is interrupted leaves it as the last commit left it.
import { Effect } from "effect"
import type { Tokenizer } from "../model/index.ts"
import type { EndToken, LogEntry, LoggedToken, PromptToken, TokenLogProbs, TokenOrigin } from "../wire/infer.ts"
import type { GenerateError } from "./errors.ts"
import type { History } from "./history.ts"
import type { Losses } from "./losses.ts"
import type { GenerateRequest } from "./request.ts"
import { Transcript } from "./transcript.ts"

/** Tokens that the base has chosen. */
export interface Chosen {
  readonly tokens: ReadonlyArray<number>
  readonly drafted: number // how many of them, the first ones, were proposed
  readonly last: TokenOrigin // of the others
  readonly told: ReadonlyArray<TokenLogProbs | undefined> // of each
}

/** Of a write to the log: its entry's sequence. */
type Written = Effect.Effect<number, GenerateError>

export class Journal {
  readonly #request: GenerateRequest
  readonly #tokenizer: Tokenizer
  readonly #transcript: Transcript
  readonly #tokens: Array<number>
  readonly #logged: Array<LoggedToken>
  readonly #prompt: Array<PromptToken>
  #losses: Losses
  #finish: "stop" | "length" | null
  #endToken: EndToken | null = null
  #written: Written

  constructor(request: GenerateRequest, tokenizer: Tokenizer, { tokens, prompt, losses, last }: History) {
    this.#request = request
    this.#tokenizer = tokenizer
    this.#transcript = new Transcript(tokenizer, request.stop, request.minTokens)
    for (const { id } of tokens) this.#transcript.push(id)
    this.#tokens = [...request.prompt, ...tokens.map(({ id }) => id)]
    this.#logged = [...tokens]
    this.#prompt = [...prompt]
    this.#losses = losses
    this.#finish = this.#finishAfter(tokens.length)
    this.#written = Effect.succeed(last)
  }

  /** Prompt and answer; the last one is the bonus token, which no KV has yet. */
  get tokens(): ReadonlyArray<number> {
    return this.#tokens
  }

  /** The answer. */
  get logged(): ReadonlyArray<LoggedToken> {
    return this.#logged
  }

  /** The prompt, where it is to be told. */
  get prompt(): ReadonlyArray<PromptToken> {
    return this.#prompt
  }

  get losses(): Losses {
    return this.#losses
  }

  get finish(): "stop" | "length" | null {
    return this.#finish
  }

  /** That it has ended with, where log-probabilities are told. */
  get endToken(): EndToken | null {
    return this.#endToken
  }

  /** The newest write. The next entry comes after its sequence. */
  get written(): Written {
    return this.#written
  }

  /** Takes tokens up to the one that ends the generation, and gives what its log is to say of them. */
  take({ tokens, drafted, last, told }: Chosen): ReadonlyArray<LoggedToken> {
    const taken: Array<LoggedToken> = []
    for (const [i, id] of tokens.entries()) {
      const scores = told[i]
      if (this.#tokenizer.isEnd(id) && !this.#request.ignoreEos) {
        this.#finish = "stop"
        if (scores !== undefined) this.#endToken = { id, ...scores }
        break
      }
      this.#tokens.push(id)
      taken.push({ id, text: this.#transcript.push(id), origin: i < drafted ? "drafted" : last, ...scores })
      this.#finish = this.#finishAfter(this.#tokens.length - this.#request.prompt.length)
      if (this.#finish !== null) break
    }
    return taken
  }

  /** An entry is being written. */
  add(entry: LogEntry, written: Written): void {
    this.#written = written
    if (entry._tag === "Tokens") this.#logged.push(...entry.tokens)
    if (entry._tag === "Prompt") this.#prompt.push(...entry.tokens)
    if (entry._tag === "Lost") this.#losses = { at: entry.at, count: entry.count }
  }

  /** The text that was held back, when no further token comes. */
  rest(): string {
    return this.#transcript.end()
  }

  #finishAfter(tokens: number): "stop" | "length" | null {
    if (this.#transcript.stopped) return "stop"
    return tokens >= this.#request.maxTokens ? "length" : null
  }
}

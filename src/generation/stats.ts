// What a generation takes, by kinds of passes.
import type { ColdStart, GenerationStats, PassStats } from "../wire/infer.ts"
import type { PassCost } from "../wire/pass.ts"
import type { RankStart } from "./services.ts"

export type PassKind = "prefill" | "calibrate" | "draft" | "verify" | "decode"

export class Tally {
  readonly #began: number // on performance's clock
  readonly #promptTokens: number
  readonly #passes = new Map<PassKind, PassStats>()
  #placed: number // where it runs, and its ranks were ready
  #start: RankStart | null = null // of its ranks, where it had to wait for it
  #reused = 0
  #logged = 0
  #filled = 0
  #first = 0
  #last = 0
  #tokens = 0
  #iterations = 0
  #accepted = 0

  constructor(promptTokens: number) {
    this.#began = performance.now()
    this.#placed = this.#began
    this.#promptTokens = promptTokens
  }

  /** On ranks; `start` is what theirs took, where it has waited for it. */
  placed(start: RankStart | null): void {
    this.#placed = performance.now()
    this.#start ??= start
  }

  /** Adds a pass, or `count` of one command: what its ranks say of it, and how long and how many bytes the command and the answer took besides. */
  pass(
    kind: PassKind,
    cost: PassCost,
    round: { readonly millis: number; readonly bytes: number } | null,
    count = 1,
  ): void {
    const so = this.#passes.get(kind) ?? { count: 0, millis: 0, computeMillis: 0, hops: 0, messages: 0, bytes: 0 }
    this.#passes.set(kind, {
      count: so.count + count,
      millis: so.millis + (round?.millis ?? cost.millis),
      computeMillis: so.computeMillis + cost.computeMillis,
      hops: so.hops + cost.hops,
      messages: so.messages + cost.messages + (round === null ? 0 : 2), // the command and the answer
      bytes: so.bytes + cost.bytes + (round?.bytes ?? 0),
    })
  }

  /** Tokens of the prompt whose KV was another session's. */
  reused(tokens: number): void {
    this.#reused = tokens
  }

  /** Tokens that a former owner has logged. */
  goneOn(tokens: number): void {
    this.#logged = tokens
  }

  prefilled(): void {
    this.#filled = this.#last = performance.now()
  }

  iteration(tokens: number, accepted: number, iterations = 1): void {
    this.#last = performance.now()
    if (this.#tokens === 0) this.#first = this.#last
    this.#tokens += tokens
    this.#accepted += accepted
    this.#iterations += iterations
  }

  read(): GenerationStats {
    const decoding = this.#last - this.#filled
    const drafts = this.#passes.get("draft")?.count ?? 0
    return {
      promptTokens: this.#promptTokens,
      reusedTokens: this.#reused,
      tokens: this.#logged + this.#tokens,
      millis: performance.now() - this.#began,
      firstTokenMillis: Math.max(0, this.#first - this.#began),
      tokensPerSecond: decoding > 0 ? (this.#tokens * 1000) / decoding : 0,
      iterations: this.#iterations,
      meanAcceptedLength: drafts > 0 ? this.#accepted / drafts : 0,
      passes: Object.fromEntries(this.#passes),
      ...(this.#start === null ? {} : { coldStart: this.#coldStart(this.#start) }),
    }
  }

  #coldStart(start: RankStart): ColdStart {
    const filled = Math.max(this.#placed, this.#filled)
    return {
      ...start,
      prefillMillis: filled - this.#placed,
      firstTokenMillis: Math.max(0, this.#first - filled),
    }
  }
}

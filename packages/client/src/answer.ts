/** drafted: proposed by the draft and accepted; corrected: the base's own where a draft ended; plain: decoded alone. */
export type TokenOrigin = "drafted" | "corrected" | "plain"

/** A token that might have been chosen. */
export interface Alternative {
  readonly id: number
  readonly logProb: number
  readonly text: string
  readonly bytes: Uint8Array
}

/** Log-probabilities are those of softmax(logits): the model's own, whatever the sampler makes of them. */
export interface TokenLogProbs {
  /** May be a part of a character. */
  readonly bytes: Uint8Array
  /** A control token: its bytes are its name, and no part of the text. */
  readonly control?: true
  readonly logProb: number
  /** As many as were asked for, the most probable first. */
  readonly top: ReadonlyArray<Alternative>
}

/** A token of the answer as it comes. */
export interface Token extends Partial<TokenLogProbs> {
  /** -1 for the last piece of text where the answer ends within a character. */
  readonly id: number
  /** What became whole with this token; may be empty in the middle of a character. */
  readonly text: string
  readonly origin: TokenOrigin
  /** Among the answer's tokens, from 0. `resume(session, { from: position + 1 })` goes on behind it. */
  readonly position: number
}

/** A token of the prompt, where its log-probabilities were asked for. The first one has none. */
export interface PromptToken {
  readonly id: number
  readonly bytes: Uint8Array
  readonly control?: true
  readonly logProb?: number
  readonly top?: ReadonlyArray<Alternative>
}

/** The token that ended the answer, which is no part of it. */
export interface EndToken extends TokenLogProbs {
  readonly id: number
}

/** What a session samples with, of that which the model may have had a say in. */
export interface SampledWith {
  readonly temperature: number
  /** 0: off */
  readonly topK: number
  /** 1: off */
  readonly topP: number
  /** 0: off */
  readonly minP: number
  /** 1: off */
  readonly repetitionPenalty: number
}

/** The passes of one kind. */
export interface PassStats {
  readonly count: number
  readonly millis: number
  readonly computeMillis: number
  readonly hops: number
  readonly messages: number
  readonly bytes: number
}

/** From the request to the first token where ranks had to be started for it; the parts follow one another. */
export interface ColdStart {
  readonly placementMillis: number
  readonly processStartMillis: number
  readonly modelLoadMillis: number
  readonly prefillMillis: number
  readonly firstTokenMillis: number
}

/** What the answer took. */
export interface GenerationStats {
  readonly promptTokens: number
  /** Of the prompt, whose KV an earlier session had left. */
  readonly reusedTokens: number
  readonly tokens: number
  readonly millis: number
  readonly firstTokenMillis: number
  readonly tokensPerSecond: number
  readonly iterations: number
  /** Drafted tokens accepted in an iteration that drafted. */
  readonly meanAcceptedLength: number
  /** By kind: prefill, calibrate, draft, verify, decode. */
  readonly passes: { readonly [kind: string]: PassStats }
  readonly coldStart?: ColdStart
}

/** stop: the model or a stop text ended it; length: maxTokens; deadline: deadlineMillis; cancelled: by anybody. */
export type FinishReason = "stop" | "length" | "deadline" | "cancelled"

/** All of a session that was read, when it has ended. */
export interface Answer {
  readonly session: string
  readonly text: string
  readonly tokens: ReadonlyArray<number>
  readonly finishReason: FinishReason
  readonly stats: GenerationStats
  readonly promptTokens: number
  readonly seed: bigint
  /** Null where the session's log does not say. */
  readonly sampling: SampledWith | null
  /** One a token, where they were asked for. */
  readonly logProbs?: ReadonlyArray<TokenLogProbs>
  readonly endToken?: EndToken
  readonly prompt?: ReadonlyArray<PromptToken>
}

/** A session that was accepted. */
export interface Session {
  /** Its name: all that is needed to read it, so keep it like the answer. */
  readonly id: string
  readonly promptTokens: number
  readonly seed: bigint
  readonly sampling: SampledWith | null
}

/** A deployment that is served now. */
export interface ServedModel {
  readonly deployment: string
  readonly model: string
  /** Tokens of a session, prompt and answer. */
  readonly context: number
  /** "single x 1" */
  readonly base: string
  /** "layer x 2", or "none" */
  readonly draft: string
  readonly deterministic: boolean
  readonly supervisors: number
}

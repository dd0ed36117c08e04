/** What is said in a chat, oldest first. */
export interface ChatMessage {
  /** "system", "user", "assistant", or what else the model's template knows. */
  readonly role: string
  readonly content: string
}

/** A draft tree of a fixed shape. */
export interface DraftTree {
  readonly depth: number
  readonly width: number
  readonly nodes: number
}

/** JSON, as a chat's template can be told it. */
export type Json = null | boolean | number | string | ReadonlyArray<Json> | { readonly [key: string]: Json }

/** Exactly one of `prompt`, `tokens` and `messages`. What is left out has the deployment's default. */
export interface GenerateRequest {
  /** Which deployment answers; by default the one that `connect` was given. */
  readonly deployment?: string
  /** A text to continue. */
  readonly prompt?: string
  /** The same as token ids of the model. */
  readonly tokens?: ReadonlyArray<number>
  /** A chat, for models with a chat template. */
  readonly messages?: ReadonlyArray<ChatMessage>
  /** What the chat's template is told beside the messages. */
  readonly templateArguments?: { readonly [name: string]: Json }
  /** Whether the model's files put tokens such as bos around the text; true for a prompt, false for messages. */
  readonly addSpecialTokens?: boolean
  /** Tokens of the answer, which have to fit the context; by default all that the context leaves. */
  readonly maxTokens?: number
  /** Likewise, and fewer where the context leaves fewer. */
  readonly mostTokens?: number
  /** 0 takes the most probable token. By default the model's, then `fallbackTemperature`, then 0. */
  readonly temperature?: number
  /** The temperature where neither the request nor the model has one. */
  readonly fallbackTemperature?: number
  /** The most probable tokens only, so many of them; by default the model's, then off. */
  readonly topK?: number
  /** The most probable tokens that have this probability together; by default the model's, then off. */
  readonly topP?: number
  /** Tokens with at least this share of the highest probability; by default the model's, then off. */
  readonly minP?: number
  /** Divides the logits of tokens that prompt or answer have; by default the model's, then off. */
  readonly repetitionPenalty?: number
  /** Taken from the logits of tokens that the answer has. */
  readonly presencePenalty?: number
  /** Taken from them for each time that the answer has them. */
  readonly frequencyPenalty?: number
  /** By token id: what is added to its logit. -100 bans a token. */
  readonly logitBias?: { readonly [token: string]: number }
  /** Before so many tokens the answer does not end by itself. */
  readonly minTokens?: number
  /** The model's end tokens are tokens like others. */
  readonly ignoreEos?: boolean
  /** Of 64 bits. The same request and seed give the same tokens; by default it is random, and the session tells it. */
  readonly seed?: number | bigint
  /** Texts that end the answer; they are no part of it. */
  readonly stop?: ReadonlyArray<string>
  /** How drafts are made; never a matter of which tokens come. By default what pays. */
  readonly speculation?: "adaptive" | "none" | DraftTree
  /** N of the draft's fuzzy passes. */
  readonly fuzzy?: number
  /** Who asks, for the deployment's limits of each client. */
  readonly client?: string
  /** From acceptance; then the answer ends with what there is, finish reason "deadline". */
  readonly deadlineMillis?: number
  /** The session is cancelled where nobody has read it for so long, as when this process dies; 100 or more. */
  readonly interestMillis?: number
  /** Log-probabilities of each token, and so many alternatives, 0 to 20. */
  readonly logprobs?: number
  /** Likewise of the prompt's tokens. */
  readonly promptLogprobs?: number
  /** Tells each drafting iteration on the session's trace subject. */
  readonly trace?: boolean
}

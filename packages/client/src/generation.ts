import type { Answer, Session, Token } from "./answer.ts"

/**
 * An answer under way. Iterate over it for its tokens, over `text` for its text, await it for all at once; in any order and
 * as often as wanted. It begins when it is asked for, not when it is read.
 */
export interface Generation extends AsyncIterable<Token>, PromiseLike<Answer> {
  /** Resolves as soon as the request is accepted, long before the first token. */
  readonly session: Promise<Session>
  /** The text, piece by piece. */
  readonly text: AsyncIterable<string>
  /** Ends the session within one pass: the answer is what there is, with finish reason "cancelled". */
  readonly cancel: () => void
}

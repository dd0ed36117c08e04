// The tokens of sessions that have ended and whose KV the ranks still hold: whoever begins with the same tokens begins with
// a copy of their KV. Plain immutable data.
import type { Effect } from "effect"

/** What is left of an ended session. */
export interface Prefix {
  readonly session: string
  readonly kv: string // its name on the ranks
  readonly tokens: ReadonlyArray<number>
  readonly base: number // exact KV in the base group: of so many of the tokens
  readonly draft: number
}

/** Begin as another session did. */
export interface Reuse {
  readonly session: string
  readonly kv: string
  readonly base: number // tokens that are the same and have KV there
  readonly draft: number
  /** Other groups that have it: the session itself moves from there. */
  readonly source?: { readonly epoch: number; readonly group?: string } // left out: the group of the same name
}

/** What ended sessions have left on the ranks of one replica. */
export interface Prefixes {
  /** One that began with the same tokens. */
  readonly reusable: (prompt: ReadonlyArray<number>) => Reuse | null
  /** A session whose KV the ranks do not hold after all. */
  readonly forget: (session: string) => Effect.Effect<void>
  /** A session is over. Its KV may be kept for others; `release` frees it, now or later. */
  readonly leave: (prefix: Prefix, release: Effect.Effect<void>) => Effect.Effect<void>
}

/** Copying less than this saves nothing. */
const LEAST = 16

/** The session that shares the longest beginning with a prompt, whose last token needs no KV. */
export const longest = (prefixes: Iterable<Prefix>, prompt: ReadonlyArray<number>): Reuse | null => {
  let best: Reuse | null = null
  for (const prefix of prefixes) {
    const shared = common(prefix.tokens, prompt)
    const base = Math.min(shared, prefix.base, prompt.length - 1)
    if (base < LEAST || base <= (best?.base ?? 0)) continue
    best = { session: prefix.session, kv: prefix.kv, base, draft: Math.min(base, prefix.draft) }
  }
  return best
}

const common = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): number => {
  const length = Math.min(a.length, b.length)
  let at = 0
  while (at < length && a[at] === b[at]) at++
  return at
}

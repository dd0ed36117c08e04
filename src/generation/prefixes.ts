// The tokens of sessions that have ended and whose KV the ranks still hold: a session that begins with the same tokens begins
// with a copy of their KV. Plain data.
import type { Effect } from "effect"

/** What is left of an ended session. */
export interface Prefix {
  readonly session: string
  readonly kv: string // its name on the ranks
  readonly tokens: ReadonlyArray<number>
  readonly base: number // exact KV in the base group: of this many of the tokens
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

/** Tokens that are looked up together. Copying less than this saves nothing. */
export const BLOCK = 16

/** Of those that begin alike for as many blocks, this many are compared token by token: the newest. */
const COMPARED = 32

/**
 * Prefixes by the hash of all their tokens up to the end of each block, as vLLM's prefix cache has them: what a lookup takes
 * does not grow with what many prompts have in common, nor with how many there are.
 */
export class PrefixIndex {
  readonly #through = new Map<number, Set<Prefix>>() // by each of their blocks
  readonly #ending = new Map<number, Set<Prefix>>() // by their last one

  add(prefix: Prefix): void {
    const blocks = hashesOf(prefix.tokens)
    for (const hash of blocks) addTo(this.#through, hash, prefix)
    const last = blocks.at(-1)
    if (last !== undefined) addTo(this.#ending, last, prefix)
  }

  delete(prefix: Prefix): void {
    for (const hash of hashesOf(prefix.tokens)) {
      deleteFrom(this.#through, hash, prefix)
      deleteFrom(this.#ending, hash, prefix)
    }
  }

  /** The session that shares the longest beginning with a prompt, whose last token needs no KV. */
  longest(prompt: ReadonlyArray<number>): Reuse | null {
    for (const hash of hashesOf(prompt).reverse()) {
      const alike = [...(this.#through.get(hash) ?? [])].slice(-COMPARED)
      const best = alike
        .map((prefix) => ({ prefix, base: Math.min(common(prefix.tokens, prompt), prefix.base, prompt.length - 1) }))
        .reduce<Found | null>((best, found) => (found.base > (best?.base ?? BLOCK - 1) ? found : best), null)
      if (best === null) continue
      const { session, kv, draft } = best.prefix
      return { session, kv, base: best.base, draft: Math.min(best.base, draft) }
    }
    return null
  }

  /** Others that are worth no more than this one to a session that begins as they did: a chat's last turn has all of those before. */
  within(one: Prefix): ReadonlyArray<Prefix> {
    const ending = hashesOf(one.tokens).flatMap((hash) => [...(this.#ending.get(hash) ?? [])])
    return ending.filter((other) => other !== one && contains(one, other))
  }
}

interface Found {
  readonly prefix: Prefix
  readonly base: number
}

const contains = (one: Prefix, other: Prefix): boolean =>
  other.base <= one.base && other.draft <= one.draft && common(one.tokens, other.tokens) === other.tokens.length

const common = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): number => {
  const length = Math.min(a.length, b.length)
  let at = 0
  while (at < length && a[at] === b[at]) at++
  return at
}

/** FNV-1a of the tokens up to the end of each whole block, 32 bits. Two that differ may have the same: tokens are compared. */
const hashesOf = (tokens: ReadonlyArray<number>): Array<number> => {
  const hashes: Array<number> = []
  let hash = 0x811c9dc5
  for (const [i, token] of tokens.entries()) {
    hash = Math.imul(hash ^ token, 0x01000193)
    if (i % BLOCK === BLOCK - 1) hashes.push(hash)
  }
  return hashes
}

const addTo = (index: Map<number, Set<Prefix>>, hash: number, prefix: Prefix): void => {
  const there = index.get(hash)
  if (there === undefined) index.set(hash, new Set([prefix]))
  else there.add(prefix)
}

const deleteFrom = (index: Map<number, Set<Prefix>>, hash: number, prefix: Prefix): void => {
  const there = index.get(hash)
  if (there?.delete(prefix) && there.size === 0) index.delete(hash)
}

// What ended sessions have left on the ranks of one replica, for sessions that begin with the same tokens (prefixes.ts). It
// gives way, the least useful first, to sessions that need the room, and is freed when it has not been asked for in its time.
import { Effect } from "effect"
import { BLOCK, type Prefix, type Prefixes, PrefixIndex } from "../generation/prefixes.ts"
import type { Told } from "./prefixGossip.ts"

export interface PrefixCache extends Prefixes {
  /** What other supervisors keep there. Theirs is the memory, and they free it. */
  readonly elsewhere: Told
  /** Tokens that are kept. */
  readonly tokens: () => number
  /** Tokens that a session with this prompt would find here. */
  readonly shared: (prompt: ReadonlyArray<number>) => number
  /** Frees as much as is more than this many tokens, what a session with this prompt would use last of all. */
  readonly fit: (tokens: number, prompt: ReadonlyArray<number>) => Effect.Effect<void>
}

/** By default. */
const KEEP_MILLIS = 60_000

/** How often to look for prefixes that were not asked for in their time, or are part of others. */
const SWEEP_MILLIS = 250

/** A clock that is set keeps no KV for longer. */
const monotonic = () => performance.now()

interface Kept {
  readonly prefix: Prefix
  readonly release: Effect.Effect<void> | null // null: another supervisor keeps it
  readonly until: number // by performance's clock; 0 where others keep more
}

const NOBODY: Told = { kept: () => {}, freed: () => {} }

/** Until the scope closes: then all of it is freed. `keepMillis` is how long it waits; 0: nothing is kept. `told` hears of it. */
export const prefixCache = Effect.fnUntraced(function* (keepMillis = KEEP_MILLIS, told: Told = NOBODY) {
  const kept = new Map<string, Kept>() // by session; the one that was of no use for longest comes first
  const index = new PrefixIndex()
  let tokens = 0 // of our own

  const keep = (prefix: Prefix, release: Effect.Effect<void> | null): void => {
    kept.set(prefix.session, { prefix, release, until: monotonic() + keepMillis })
    index.add(prefix)
    if (release !== null) tokens += prefix.tokens.length
  }

  const drop = (session: string): Effect.Effect<void> => {
    const one = kept.get(session)
    if (one === undefined) return Effect.void
    kept.delete(session)
    index.delete(one.prefix)
    if (one.release === null) return Effect.void
    tokens -= one.prefix.tokens.length
    told.freed(session)
    return one.release
  }

  const endNow = (session: string): void => {
    const one = kept.get(session)
    if (one !== undefined) kept.set(session, { ...one, until: 0 })
  }

  const forget = (session: string): Effect.Effect<void> => Effect.suspend(() => drop(session))
  const forgetAll = (sessions: ReadonlyArray<string>) => Effect.forEach(sessions, forget, { discard: true })
  const isOurs = ({ session }: Prefix): boolean => (kept.get(session)?.release ?? null) !== null

  const leave = (prefix: Prefix, release: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (keepMillis === 0 || prefix.base < BLOCK) return release
      keep(prefix, release)
      told.kept(prefix)
      const contained = index.within(prefix).filter(isOurs)
      return forgetAll(contained.map(({ session }) => session))
    })

  const reusable = (prompt: ReadonlyArray<number>) => {
    const reuse = index.longest(prompt)
    const one = reuse === null ? undefined : kept.get(reuse.session)
    if (one !== undefined) {
      kept.delete(one.prefix.session)
      kept.set(one.prefix.session, one)
    }
    return reuse
  }

  const shrink = (most: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (tokens <= most) return Effect.void
      const oldest = kept.values().find(({ release }) => release !== null)
      return oldest === undefined ? Effect.void : Effect.andThen(forget(oldest.prefix.session), shrink(most))
    })

  const sweep = Effect.suspend(() => {
    const now = monotonic()
    return forgetAll([...kept].flatMap(([session, { until }]) => (until <= now ? [session] : [])))
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(SWEEP_MILLIS), sweep)))
  yield* Effect.addFinalizer(() => shrink(-1))

  const service: PrefixCache = {
    ...{ forget, leave, reusable, tokens: () => tokens },
    fit: (most, prompt) =>
      Effect.suspend(() => {
        if (tokens <= most) return Effect.void
        reusable(prompt)
        return shrink(most)
      }),
    shared: (prompt) => index.longest(prompt)?.base ?? 0,
    elsewhere: {
      kept: (prefix) => {
        keep(prefix, null)
        // Of two that are the same, neither is dropped for the other's sake.
        const shorter = index.within(prefix).filter(({ tokens }) => tokens.length < prefix.tokens.length)
        for (const { session } of shorter) endNow(session)
      },
      freed: (session) => {
        if (kept.get(session)?.release === null) Effect.runSync(drop(session))
      },
    },
  }
  return service
})

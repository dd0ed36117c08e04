// What ended sessions have left on the ranks of one replica, for those who begin with the same tokens (prefixes.ts). It gives
// way, the least useful first, to whoever needs the room, and is freed when nobody has asked for it in its time.
import { Effect } from "effect"
import { longest, type Prefix, type Prefixes } from "../workflow/prefixes.ts"
import type { Told } from "./keptNews.ts"

export interface Keeping extends Prefixes {
  /** What other supervisors keep there. Theirs is the memory, and they free it. */
  readonly elsewhere: Told
  /** Tokens that are kept. */
  readonly tokens: () => number
  /** Tokens that a session with this prompt would find here. */
  readonly shared: (prompt: ReadonlyArray<number>) => number
  /** Frees as much as is more than so many tokens, what a session with this prompt would use last of all. */
  readonly fit: (tokens: number, prompt: ReadonlyArray<number>) => Effect.Effect<void>
}

/** By default. */
export const KEEP_MILLIS = 60_000

/** What nobody has asked for in its time, or is part of what others keep, is looked for so often. */
const SWEEP_MILLIS = 250

/** A clock that is set keeps no KV for longer. */
const monotonic = () => performance.now()

interface Kept {
  readonly prefix: Prefix
  readonly until: number // by performance's clock
}

interface Own extends Kept {
  readonly release: Effect.Effect<void>
}

const NOBODY: Told = { kept: () => {}, freed: () => {} }

/** Until the scope closes: then all of it is freed. `keepMillis` is how long it waits; 0: nothing is kept. `told` hears of it. */
export const keeping = Effect.fnUntraced(function* (keepMillis: number, told: Told = NOBODY) {
  const kept = new Map<string, Own>() // by session; the one that was of no use for longest comes first
  const others = new Map<string, Kept>()

  const prefixes = () => [...kept.values()].map(({ prefix }) => prefix)
  const known = () => [...prefixes(), ...[...others.values()].map(({ prefix }) => prefix)]
  const tokens = () => prefixes().reduce((sum, prefix) => sum + prefix.tokens.length, 0)

  const forget = (session: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      others.delete(session)
      const one = kept.get(session)
      if (one === undefined) return Effect.void
      kept.delete(session)
      told.freed(session)
      return one.release
    })

  const leave = (prefix: Prefix, release: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (keepMillis === 0) return release
      const contained = prefixes().filter((other) => contains(prefix, other))
      kept.set(prefix.session, { prefix, release, until: monotonic() + keepMillis })
      told.kept(prefix)
      return Effect.forEach(contained, ({ session }) => forget(session), { discard: true })
    })

  const reusable = (prompt: ReadonlyArray<number>) => {
    const reuse = longest(known(), prompt)
    const one = reuse === null ? undefined : kept.get(reuse.session)
    if (one !== undefined) {
      kept.delete(one.prefix.session)
      kept.set(one.prefix.session, one)
    }
    return reuse
  }

  const shrink = (most: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      const [oldest] = kept.keys()
      if (oldest === undefined || tokens() <= most) return Effect.void
      return Effect.andThen(forget(oldest), shrink(most))
    })

  const sweep = Effect.suspend(() => {
    const elsewhere = [...others.values()]
    const isOver = ({ prefix, until }: Kept): boolean =>
      until <= monotonic() || elsewhere.some((one) => exceeds(one.prefix, prefix))
    const over = [...others, ...kept].filter(([, one]) => isOver(one))
    return Effect.forEach(over, ([session]) => forget(session), { discard: true })
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(SWEEP_MILLIS), sweep)))
  yield* Effect.addFinalizer(() => shrink(0))

  const service: Keeping = {
    ...{ tokens, forget, leave, reusable },
    fit: (most, prompt) =>
      Effect.suspend(() => {
        reusable(prompt)
        return shrink(most)
      }),
    shared: (prompt) => longest(known(), prompt)?.base ?? 0,
    elsewhere: {
      kept: (prefix) => void others.set(prefix.session, { prefix, until: monotonic() + keepMillis }),
      freed: (session) => void others.delete(session),
    },
  }
  return service
})

/** Whether whoever begins as the other one did finds as much in this one: a chat's last turn has all of those before. */
const contains = (one: Prefix, other: Prefix): boolean =>
  other.base <= one.base && other.draft <= one.draft && other.tokens.every((token, i) => one.tokens[i] === token)

/** Of two that are the same, neither is dropped for the other's sake. */
const exceeds = (one: Prefix, other: Prefix): boolean => one.tokens.length > other.tokens.length && contains(one, other)

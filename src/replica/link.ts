// The way to one replica: its groups joined, joined again when their ranks were lost and are back, and how far they are.
import { Effect, Stream, SubscriptionRef } from "effect"
import type { Models, RankStart } from "../generation/services.ts"
import { type Group, join } from "../group/group.ts"
import { healthPass } from "../group/healthPass.ts"
import type { Tokenizer } from "../model/index.ts"
import { type Deployment, type GroupName, groupsOf } from "../wire/deployment.ts"
import type { Replica } from "../wire/replicas.ts"
import { draftBatcher } from "./draftBatcher.ts"
import { kvTokensOf } from "./memory.ts"
import { type PrefixCache, prefixCache } from "./prefixCache.ts"
import type { Told } from "./prefixGossip.ts"

/** After ranks could not load, or were lost. */
const AGAIN_MILLIS = 250

export interface Link {
  readonly epoch: number
  /** The replica as it is written now: a standby may have taken a rank's place. */
  readonly follow: (replica: Replica) => Effect.Effect<void>
  /** No new sessions. */
  draining: boolean
  /** Sessions of this supervisor. */
  sessions: number
  /** Tokens that they may come to. */
  reserved: number
  /** Tokens that it has memory for; 0 until it is ready. */
  readonly kvTokens: number
  /** What a session needs; null while the ranks are not ready. */
  readonly models: Ready | null
  /** Tokens whose KV an ended session has left there. */
  readonly shared: (prompt: ReadonlyArray<number>) => number
  /** Stops what runs of a session there and frees its KV: at once, or when the ranks are ready. */
  readonly free: (session: string) => Effect.Effect<void>
  /** Sessions of all supervisors, as far as is known. */
  readonly load: () => number
  /** From 0 to 1. */
  readonly progress: () => number
  /** What the start took for a session that was asked for at a time of performance's clock; null where it did not wait for it. */
  readonly coldStart: (asked: number) => RankStart | null
}

/** Ranks that are ready, and what they keep: that is gone with one of them. */
export type Ready = Models["Service"] & { readonly prefixes: PrefixCache }

export interface LinkOptions {
  readonly deployment: Deployment
  readonly replica: Replica
  readonly tokenizer: Tokenizer
  readonly changed: () => void
  readonly running: () => number // sessions of all supervisors there, as far as is known
  readonly told: Told // of what is kept there
}

/** Until the scope closes. */
export const openLink = Effect.fnUntraced(function* ({
  deployment,
  replica,
  tokenizer,
  changed,
  running,
  told,
}: LinkOptions) {
  const { epoch } = replica
  let now = replica
  const placed = performance.now()
  const expected = groupsOf(deployment).reduce((sum, { ranks }) => sum + ranks, 0)
  const learned: Models["Service"]["learned"] = { current: undefined }
  let joined: ReadonlyArray<Group> = []
  let models: Link["models"] = null
  let started: number | null = null // all ranks were heard for the first time
  let ready: number | null = null
  const unfreed: Array<string> = []
  let sessions = 0
  let reserved = 0
  let kvTokens = 0

  const beats = () => joined.flatMap((group) => [...SubscriptionRef.getUnsafe(group.beats).values()])
  const heard = Effect.sync(() => {
    if (started === null && beats().length === expected) started = performance.now()
    changed()
  })
  const once = Effect.gen(function* () {
    joined = yield* Effect.forEach(groupsOf(deployment), (group) => {
      const standby = () => now.standbys.some((one) => one.group === group.name)
      return join({ deployment: deployment.name, group, epoch: now.formed, standby })
    })
    for (const group of joined) {
      yield* SubscriptionRef.changes(group.beats).pipe(
        Stream.runForEach(() => heard),
        Effect.forkScoped,
      )
    }
    yield* Effect.forEach(joined, (group) => Effect.andThen(group.ready, healthPass(group)), {
      ...{ concurrency: "unbounded", discard: true },
    })
    const named = (name: GroupName) => joined.find((group) => group.name === name)
    const [base, draft] = [named("base"), named("draft")]
    if (base === undefined) return
    ready ??= performance.now()
    kvTokens = kvTokensOf(deployment, joined)
    const drafting = draft && (yield* draftBatcher(draft, deployment.draft?.strategy ?? "single"))
    const prefixes = yield* prefixCache(deployment.keepMillis, told)
    const able = { base, draft: drafting ?? null, prefill: named("prefill") ?? null, tokenizer, learned, prefixes }
    yield* Effect.forEach(unfreed.splice(0), (session) => abort(able, session), { discard: true })
    models = able
    changed()
    yield* Effect.raceAll(joined.map((group) => group.silent))
  }).pipe(
    Effect.ensuring(
      Effect.sync(() => {
        models = null
        joined = []
        changed()
      }),
    ),
    Effect.scoped,
    Effect.ignore, // why ranks could not load, the controller says
  )
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(once, Effect.sleep(AGAIN_MILLIS))))

  const link: Link = {
    epoch,
    free: (session) =>
      Effect.suspend(() => {
        if (models !== null) return abort(models, session)
        unfreed.push(session)
        return Effect.void
      }),
    follow: (replica) => {
      now = replica
      return Effect.forEach(joined, (group) => group.move(replica.formed), { discard: true })
    },
    draining: false,
    get sessions() {
      return sessions
    },
    set sessions(count: number) {
      sessions = count
    },
    get reserved() {
      return reserved
    },
    set reserved(tokens: number) {
      reserved = tokens
    },
    get kvTokens() {
      return kvTokens
    },
    get models() {
      return models
    },
    shared: (prompt) => models?.prefixes.shared(prompt) ?? 0,
    load: () => Math.max(sessions, running()),
    progress: () =>
      beats().reduce((sum, { state, progress }) => sum + (state === "ready" ? 1 : progress), 0) / expected,
    coldStart: (asked) => {
      if (ready === null || started === null || asked >= ready) return null
      const part = (from: number, to: number): number => Math.max(0, to - Math.max(from, asked))
      return {
        placementMillis: part(asked, placed),
        processStartMillis: part(placed, started),
        modelLoadMillis: part(started, ready),
      }
    },
  }
  return link
})

/** Stops what runs of a session on a replica, and frees its KV there. */
export const abort = ({ base, draft, prefill }: Models["Service"], session: string) =>
  Effect.forEach([base, draft, prefill], (group) => group?.control({ _tag: "Abort", session }) ?? Effect.void, {
    discard: true,
  })

// What the records say to an engine: which executions there are, which of its own have changed or are another's now, and
// which have lost their owner. Those it claims, and those that name this engine and that it does not run: a run may have
// given up, and a record can be made again when its session is over, by a message that came twice.
import { Effect, Queue, type Scope, Stream } from "effect"
import type { Changes } from "../bus/changes.ts"
import { claimable, claimed, type Execution } from "./ownership.ts"
import type { Presence } from "./presence.ts"
import type { Registered, Runs } from "./runs.ts"
import type { Recorded, Store } from "./store.ts"

/** Records that are claimed side by side. */
const CLAIMS = 8

/** A server of a cluster may have read an older record to us than the one that is there. */
const AGAIN_MILLIS = 1_000

export interface Claims {
  /** Whether there is such an execution, as far as is known here. */
  readonly has: (id: string) => boolean
  /** What the record of an execution is now; null where it is gone. */
  readonly hear: (id: string, recorded: Recorded | null) => Effect.Effect<void>
  /** Looks for executions without an owner. */
  readonly look: () => void
}

export interface ClaimsOptions {
  readonly owner: string // as which this engine claims
  readonly store: Store
  readonly presence: Presence["Service"]
  readonly registered: ReadonlyMap<string, Registered>
  readonly beginning: ReadonlySet<string> // recorded by this engine, and about to run
  readonly runs: Runs
  readonly scope: Scope.Scope // of the runs
  readonly changed: Changes // told whenever an execution has ended
}

/** Follows the records until the scope closes. */
export const claims = Effect.fnUntraced(function* (options: ClaimsOptions) {
  const { owner, store, presence, registered, beginning, runs, scope, changed } = options
  const records = new Map<string, Pick<Execution, "owner" | "parent">>()
  const orphans = yield* Queue.sliding<void>(1)
  const look = (): void => void Queue.offerUnsafe(orphans, undefined)
  const isHere = (id: string) => runs.has(id) || beginning.has(id)
  const isFree = (id: string, record: Pick<Execution, "owner">) =>
    !isHere(id) && claimable(record, (one) => one !== owner && presence.isAlive(one))
  const abandon = (id: string): Effect.Effect<void> => {
    const one = runs.owned.get(id)
    return one === undefined ? Effect.void : Effect.asVoid(Effect.forkIn(runs.abandon(one), scope))
  }

  const hear = (id: string, recorded: Recorded | null): Effect.Effect<void> => {
    if (recorded === null) {
      const parent = records.get(id)?.parent ?? null
      records.delete(id)
      changed.tell()
      if (parent !== null) runs.wake(parent, false)
      return abandon(id)
    }
    const { execution, revision } = recorded
    const one = runs.owned.get(id)
    records.set(id, execution)
    if (execution.owner !== "") presence.expect(execution.owner)
    if (isFree(id, execution)) look()
    if (one === undefined || revision <= one.recorded.revision) return Effect.void
    return execution.owner === owner ? runs.noted(one, recorded) : abandon(id)
  }

  const claim = Effect.fnUntraced(function* (id: string) {
    const recorded = yield* store.get(id)
    if (recorded === null) return yield* isHere(id) ? Effect.void : hear(id, null)
    records.set(id, recorded.execution)
    const known = registered.get(recorded.execution.workflow)
    if (known === undefined || !isFree(id, recorded.execution)) return
    const execution = claimed(recorded.execution, owner)
    const revision = yield* replaced(id, execution, recorded.revision)
    if (revision === null) return yield* Effect.forkIn(Effect.delay(Effect.sync(look), AGAIN_MILLIS), scope)
    yield* Effect.logInfo(`${execution.workflow} ${id} goes on here, as epoch ${execution.epoch}`)
    yield* runs.start(id, { execution, revision }, known)
  })

  /** The new revision, also where it was written before its acknowledgement was lost; null where another has written. */
  const replaced = Effect.fnUntraced(function* (id: string, execution: Execution, revision: number) {
    const written = yield* store.replace(id, execution, revision)
    if (written !== null) return written
    const now = yield* store.get(id)
    return now?.execution.owner === execution.owner && now.execution.epoch === execution.epoch ? now.revision : null
  })

  const sweep = Effect.suspend(() =>
    Effect.forEach(
      [...records].filter(([id, record]) => isFree(id, record)).map(([id]) => id),
      claim,
      { concurrency: CLAIMS, discard: true },
    ),
  )

  yield* Effect.forkScoped(store.follow(hear))
  yield* Effect.forkScoped(Stream.runForEach(Stream.fromPubSub(presence.deaths), () => Effect.sync(look)))
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Queue.take(orphans), sweep)))
  const service: Claims = { has: (id) => records.has(id), hear, look }
  return service
})

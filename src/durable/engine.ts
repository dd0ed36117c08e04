// effect's WorkflowEngine on NATS. An execution is a record in a key-value bucket, and what its activities, deferreds and
// clocks gave lies beside it; the workflow's code runs in one process, its owner. When that dies, another engine of the
// namespace claims the record and runs the code again: what is recorded is read instead of done. It needs a NATS connection
// and nothing else of Chorus.
import { Context, Deferred, Duration, Effect, Exit, Layer, Option, Schedule, Scope } from "effect"
import { Workflow, WorkflowEngine } from "effect/workflow"
import { changes } from "../bus/changes.ts"
import { claims } from "./claims.ts"
import { ACTIVITY, payloadCodec, resultCodec } from "./codec.ts"
import { type Execution, handedOver } from "./ownership.ts"
import { Presence } from "./presence.ts"
import { keepsJournal, type Owned, type Registered, runs, SUSPENDED } from "./runs.ts"
import { CONFLICT_AGAIN_MILLIS, EXECUTIONS, openStore, type Store } from "./store.ts"

export interface EngineOptions {
  /** Of the executions: only engines of the same one take over from each other. A name that may stand in a subject. */
  readonly namespace: string
  readonly bucket?: string // chorus_executions
  readonly keepMillis?: number // how long the result of an execution can be asked for; an hour
}

const KEEP_MILLIS = 3_600_000

/** Between two tries to begin a child whose record was refused. */
const REFUSED_AGAIN_MILLIS = 1_000

/** How long a hand-over may take when the scope closes: what is not handed over by then is found by the lease's end. */
const HAND_OVER_MILLIS = 3_000

/** To be used as `catch`: a run that is no longer the owner's leaves without a word. */
export const giveUp = Effect.gen(function* () {
  const instance = yield* WorkflowEngine.WorkflowInstance
  instance.abandoned = true
  return yield* Effect.interrupt
})

/** What the engine of this process runs. */
export class Executions extends Context.Service<
  Executions,
  {
    /** Ends when nothing runs. */
    readonly idle: Effect.Effect<void>
    /** Ends when this execution does not run. */
    readonly left: (id: string) => Effect.Effect<void>
  }
>()("chorus/durable/Executions") {}

/** Needs `Presence`, which a process has one of. */
export const layer = ({ namespace, bucket = EXECUTIONS, keepMillis = KEEP_MILLIS }: EngineOptions) =>
  Layer.effectContext(Effect.flatMap(openStore({ bucket, namespace, keepMillis }), make))

const make = Effect.fnUntraced(function* (store: Store) {
  const presence = yield* Presence
  const owner = yield* presence.enter
  const scope = yield* Scope.make()
  const registered = new Map<string, Registered>()
  const changed = changes()
  const beginning = new Set<string>() // whose record is perhaps written, and which do not run yet
  const running = runs({ store, scope, engine: () => engine, changed, lost: () => look() })
  const { owned } = running
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  yield* Effect.addFinalizer(() =>
    Effect.forEach([...owned.values()], handOver, { concurrency: "unbounded", discard: true }).pipe(
      Effect.timeoutOption(HAND_OVER_MILLIS),
    ),
  )
  const handOver = Effect.fnUntraced(function* (one: Owned) {
    yield* running.abandon(one)
    yield* store.replace(one.id, handedOver(one.recorded.execution), one.recorded.revision)
  })

  /** An execution that others wait for begins as soon as its record is taken; one that is only asked for, at once or not at all. */
  const createRecord = (id: string, execution: Execution) =>
    execution.parent === null
      ? Effect.orDie(store.create(id, execution))
      : store
          .create(id, execution)
          .pipe(
            Effect.retry({ schedule: Schedule.spaced(REFUSED_AGAIN_MILLIS), while: ({ tooLarge }) => !tooLarge }),
            Effect.orDie,
          )

  const create = Effect.fnUntraced(function* (id: string, execution: Execution) {
    for (;;) {
      const revision = yield* createRecord(id, execution)
      if (revision !== null) return { execution, revision }
      const there = yield* store.get(id) // perhaps our own, whose acknowledgement was lost
      if (there !== null) return there.execution.owner === owner && !owned.has(id) ? there : null
      yield* Effect.sleep(CONFLICT_AGAIN_MILLIS)
    }
  })

  const resultOf = Effect.fnUntraced(function* (workflow: Workflow.Any, id: string) {
    const stored = keepsJournal(workflow) ? null : yield* store.result(id)
    return stored === null ? null : resultCodec(workflow).decode(stored)
  })

  /** Runs it here if no engine has begun it; null where another has. */
  const begin = Effect.fnUntraced(function* (known: Registered, id: string, payload: object, parent: string | null) {
    const { workflow } = known
    const recorded = yield* create(id, {
      ...{ workflow: workflow._tag, payload: payloadCodec(workflow).encode(payload), parent },
      ...{ owner, epoch: 1, interrupted: null, wakes: 0 },
    })
    if (recorded === null) return null
    // A former execution of this id was over before the record was made, if it was not before.
    const before = yield* resultOf(workflow, id)
    if (before !== null) return yield* Effect.as(store.end(id, resultCodec(workflow).encode(before)), null)
    return yield* running.start(id, recorded, known)
  })

  const beginOnce = (known: Registered, id: string, payload: object, parent: string | null) =>
    Effect.suspend(() => {
      const one = owned.get(id)
      if (one !== undefined) return Effect.succeed(one)
      beginning.add(id)
      return Effect.ensuring(
        begin(known, id, payload, parent),
        Effect.sync(() => beginning.delete(id)),
      )
    }).pipe(Effect.uninterruptible)

  const execute = Effect.fnUntraced(function* (
    workflow: Workflow.Any,
    { executionId: id, payload, discard, parent, detached }: Parameters<WorkflowEngine.Encoded["execute"]>[1],
  ) {
    const known = registered.get(workflow._tag)
    if (known === undefined) return yield* Effect.die(new Error(`the workflow ${workflow._tag} is not registered`))
    const one = yield* beginOnce(known, id, payload, detached === true ? null : (parent?.executionId ?? null))
    if (discard) return
    if (one === null) return (yield* resultOf(workflow, id)) ?? SUSPENDED
    const suspended = parent === undefined ? Effect.never : Effect.as(one.suspended.await, SUSPENDED)
    return yield* Effect.raceFirst(Deferred.await(one.done), suspended)
  })

  /** Of the record, for its owner to hear. */
  const change = Effect.fnUntraced(function* (id: string, to: (execution: Execution) => Execution) {
    for (;;) {
      const recorded = yield* store.get(id)
      if (recorded === null) return
      const execution = to(recorded.execution)
      const revision = yield* store.replace(id, execution, recorded.revision)
      if (revision !== null) return yield* hear(id, { execution, revision })
    }
  })

  const encoded: WorkflowEngine.Encoded = {
    register: (workflow, execute) =>
      Effect.sync(() => {
        registered.set(workflow._tag, { workflow, execute })
        look()
      }),
    execute: execute as WorkflowEngine.Encoded["execute"], // void where it is discarded, which no signature here says
    awaitComplete: (_, id) => changed.until(() => !has(id) && !owned.has(id)),
    poll: (workflow, id) => Effect.map(resultOf(workflow, id), Option.fromNullishOr),
    interrupt: (_, id) => change(id, (execution) => ({ ...execution, interrupted: execution.interrupted ?? "safe" })),
    interruptUnsafe: (_, id) => change(id, (execution) => ({ ...execution, interrupted: "unsafe" })),
    resume: (_, id) => change(id, (execution) => ({ ...execution, wakes: execution.wakes + 1 })),
    activityExecute: Effect.fnUntraced(function* (activity, attempt) {
      const { workflow, executionId, interrupted } = yield* WorkflowEngine.WorkflowInstance
      const instance = WorkflowEngine.WorkflowInstance.initial(workflow, executionId)
      instance.interrupted = interrupted
      const execute = activity.executeEncoded.pipe(
        Workflow.intoResult,
        Effect.provideService(WorkflowEngine.WorkflowInstance, instance),
      )
      if (keepsJournal(workflow)) return yield* execute
      const name = `${activity.name}/${attempt}`
      const stored = yield* store.part("activity", executionId, name)
      if (stored !== null) return ACTIVITY.decode(stored)
      // It replays to find its finalizers, and begins nothing new.
      if (owned.get(executionId)?.recorded.execution.interrupted && !interrupted) return SUSPENDED
      const result = yield* execute
      if (result._tag === "Suspended") return result
      return ACTIVITY.decode(yield* store.writeOnce("activity", executionId, name, ACTIVITY.encode(result)))
    }),
    deferredResult: Effect.fnUntraced(function* ({ name }) {
      const { executionId } = yield* WorkflowEngine.WorkflowInstance
      const stored = yield* store.part("deferred", executionId, name)
      return stored === null ? Option.none() : Option.some(exitOf(ACTIVITY.decode(stored)))
    }),
    deferredDone: ({ executionId, deferredName, exit }) => {
      const result = ACTIVITY.encode(new Workflow.Complete({ exit }))
      return Effect.asVoid(store.writeOnce("deferred", executionId, deferredName, result))
    },
    scheduleClock: Effect.fnUntraced(function* (workflow, { executionId, clock: { name, duration, deferred } }) {
      const due = Date.now() + Duration.toMillis(duration) // the next owner's clock has to know it too
      const at = Number(yield* store.writeOnce("clock", executionId, name, due))
      const ring = engine.deferredDone(deferred, {
        ...{ workflowName: workflow._tag, executionId, deferredName: deferred.name },
        exit: Exit.void,
      })
      const within = owned.get(executionId)?.scope ?? scope
      yield* Effect.forkIn(Effect.delay(ring, Math.max(0, at - Date.now())), within)
    }),
  }
  const engine = WorkflowEngine.makeUnsafe(encoded)
  const { has, hear, look } = yield* claims({
    owner,
    store,
    presence,
    registered,
    beginning,
    runs: running,
    scope,
    changed,
  })
  yield* Effect.forkScoped(store.followDeferreds(running.completed))
  yield* store.lost(running.recordAgain)
  const executions = Executions.of({
    idle: changed.until(() => owned.size === 0),
    left: (id) => changed.until(() => !owned.has(id)),
  })
  return Context.make(WorkflowEngine.WorkflowEngine, engine).pipe(Context.add(Executions, executions))
})

const exitOf = (result: Workflow.Result<unknown, unknown>): Exit.Exit<unknown, unknown> =>
  result._tag === "Complete" ? result.exit : Exit.void

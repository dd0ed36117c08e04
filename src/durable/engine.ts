// effect's WorkflowEngine on NATS. An execution is a record in a key-value bucket, and what its activities, deferreds and
// clocks gave lies beside it; the workflow's code runs in one process, its owner. When that dies, another engine of the
// namespace claims the record and runs the code again: what is recorded is read instead of done. It needs a NATS connection
// and nothing else of Chorus.
import { Context, Deferred, Duration, Effect, Exit, Fiber, Latch, Layer, Option, Queue, Scope, Stream } from "effect"
import { Workflow, WorkflowEngine } from "effect/workflow"
import { ACTIVITY, decodePayload, encodePayload, resultCodec } from "./codec.ts"
import { claimable, claimed, type Execution, handedOver, Ownership } from "./ownership.ts"
import { Presence } from "./presence.ts"
import { openStore, type Recorded } from "./store.ts"

export interface EngineOptions {
  /** Of the executions: only engines of the same one take over from each other. A name that may stand in a subject. */
  readonly namespace: string
  readonly bucket?: string // chorus_executions
  readonly keepMillis?: number // how long the result of an execution can be asked for; an hour
}

const BUCKET = "chorus_executions"
const KEEP_MILLIS = 3_600_000

/** How long a hand-over may take when the scope closes: what is not handed over by then is found by the lease's end. */
const HAND_OVER_MILLIS = 3_000

/**
 * A workflow with this annotation keeps a journal of its own: its activities are not recorded, nor is its result, and who
 * takes it over finds the way by itself.
 */
export const OwnJournal = Context.Reference<boolean>("chorus/durable/OwnJournal", { defaultValue: () => false })

/** To be used as `catch`: whoever is not the owner any more leaves without a word. */
export const giveUp = Effect.gen(function* () {
  const instance = yield* WorkflowEngine.WorkflowInstance
  instance.abandoned = true
  return yield* Effect.interrupt
})

/** What the engine of this process runs. */
export class Executions extends Context.Service<
  Executions,
  {
    readonly running: () => number
    /** Ends when nothing runs. */
    readonly idle: Effect.Effect<void>
  }
>()("chorus/durable/Executions") {}

/** Records that are claimed side by side. */
const CLAIMS = 8

const keepsJournal = ({ annotations }: Workflow.Any): boolean => Context.get(annotations, OwnJournal)

interface Registered {
  readonly workflow: Workflow.Any
  readonly execute: (payload: object, id: string) => Effect.Effect<unknown, unknown, EngineServices>
}

type EngineServices = WorkflowEngine.WorkflowInstance | WorkflowEngine.WorkflowEngine

type WorkflowResult = Workflow.Result<unknown, unknown>
const SUSPENDED = new Workflow.Suspended({})

/** An execution that is owned here. */
interface Owned extends Registered {
  readonly id: string
  readonly payload: object
  readonly scope: Scope.Closeable
  readonly wake: Latch.Latch // opened by whatever may let a suspended run go on
  readonly suspended: Latch.Latch // open while the run is suspended
  readonly done: Deferred.Deferred<WorkflowResult> // Suspended where it was lost to another owner
  recorded: Recorded
  explicit: boolean // it was resumed by somebody, and not by what it waits for
  instance: WorkflowEngine.WorkflowInstance["Service"] | null
  attempt: Fiber.Fiber<WorkflowResult> | null
  fiber: Fiber.Fiber<void> | null // all of them
}

/** Needs `Presence`, which a process has one of. */
export const layer = (options: EngineOptions) => Layer.effectContext(make(options))

const make = Effect.fnUntraced(function* ({ namespace, bucket = BUCKET, keepMillis = KEEP_MILLIS }: EngineOptions) {
  const presence = yield* Presence
  const store = yield* openStore({ bucket, namespace, keepMillis })
  const scope = yield* Scope.make()
  const registered = new Map<string, Registered>()
  const records = new Map<string, Pick<Execution, "owner" | "workflow" | "parent">>() // of the namespace
  const owned = new Map<string, Owned>()
  const deferreds = WorkflowEngine.makeDeferredState()
  const ends = new Set<() => void>() // who waits for an execution to end looks again
  const orphans = yield* Queue.sliding<void>(1)
  const look = (): void => void Queue.offerUnsafe(orphans, undefined)
  const isAlive = (owner: string) => presence.isAlive(owner)

  const ended = (): void => {
    for (const resume of [...ends]) resume()
  }
  const nextEnd = Effect.callback<void>((resume) => {
    const done = (): void => {
      ends.delete(done)
      resume(Effect.void)
    }
    ends.add(done)
    return Effect.sync(() => ends.delete(done))
  })

  // -- running -------------------------------------------------------------------------------------------------------

  const start = Effect.fnUntraced(function* (id: string, recorded: Recorded, { workflow, execute }: Registered) {
    const payload = yield* decodePayload(workflow, recorded.execution.payload)
    const one: Owned = {
      ...{ id, workflow, execute, payload, recorded, explicit: false, instance: null, attempt: null, fiber: null },
      ...{ scope: Scope.forkUnsafe(scope), done: Deferred.makeUnsafe() },
      ...{ wake: Latch.makeUnsafe(false), suspended: Latch.makeUnsafe(false) },
    }
    owned.set(id, one)
    one.fiber = yield* Effect.forkIn(run(one), scope)
    return one
  })

  /** Attempts until one completes. An attempt that is interrupted from outside is somebody else's to go on with. */
  const run = Effect.fnUntraced(
    function* (one: Owned) {
      for (;;) {
        one.wake.closeUnsafe()
        one.explicit = false
        const result = yield* attempt(one)
        if (result._tag === "Complete") {
          yield* Effect.uninterruptible(complete(one, result))
          return
        }
        one.suspended.openUnsafe()
        yield* resumed(one, result.failed === true)
        one.suspended.closeUnsafe()
      }
    },
    (running, one) =>
      Effect.ensuring(
        running,
        Effect.suspend(() => {
          if (owned.get(one.id) === one) owned.delete(one.id)
          ended()
          return Effect.andThen(Deferred.succeed(one.done, SUSPENDED), Scope.close(one.scope, Exit.void))
        }),
      ),
  )

  /** A run that has failed goes on only when somebody says so. */
  const resumed = Effect.fnUntraced(function* (one: Owned, failed: boolean) {
    for (;;) {
      yield* one.wake.await
      if (!failed || one.explicit) return
      one.wake.closeUnsafe()
    }
  })

  const attempt = (one: Owned): Effect.Effect<WorkflowResult> =>
    Effect.suspend(() => {
      const instance = WorkflowEngine.WorkflowInstance.initial(one.workflow, one.id, {
        scope: Scope.forkUnsafe(one.scope),
      })
      one.instance = instance
      const { epoch } = one.recorded.execution
      const body = one.execute(one.payload, one.id).pipe(
        Effect.provideService(Ownership, { epoch }),
        Effect.onExit((exit) => {
          if (!interruptsNow(one.recorded.execution, instance, exit)) return Effect.void
          instance.interrupted = true
          instance.suspended = false
          return Effect.interrupt
        }),
        Workflow.intoResult,
        Effect.provideService(WorkflowEngine.WorkflowEngine, engine),
      )
      return Effect.flatMap(Effect.forkChild(deferreds.trackRun(instance, body)), (fiber) => {
        one.attempt = fiber
        return Effect.onInterrupt(Fiber.join(fiber), () => Fiber.interrupt(fiber))
      })
    })

  const complete = Effect.fnUntraced(function* (one: Owned, result: Workflow.Complete<unknown, unknown>) {
    yield* store.end(one.id, keepsJournal(one.workflow) ? null : resultCodec(one.workflow).encode(result))
    owned.delete(one.id)
    yield* Deferred.succeed(one.done, result)
  })

  const wake = (one: Owned | undefined, explicit: boolean): void => {
    if (one === undefined) return
    one.explicit ||= explicit
    one.wake.openUnsafe()
  }

  /** The execution has another owner, or is gone. */
  const abandon = Effect.fnUntraced(function* (one: Owned) {
    owned.delete(one.id)
    if (one.instance !== null) one.instance.abandoned = true
    if (one.fiber !== null) yield* Fiber.interrupt(one.fiber)
  })

  // -- taking over ---------------------------------------------------------------------------------------------------

  const hear = (id: string, recorded: Recorded | null): Effect.Effect<void> => {
    const one = owned.get(id)
    if (recorded === null) {
      const parent = records.get(id)?.parent ?? null
      records.delete(id)
      ended()
      if (parent !== null) wake(owned.get(parent), false)
      return one === undefined ? Effect.void : Effect.asVoid(Effect.forkIn(abandon(one), scope))
    }
    const { execution, revision } = recorded
    records.set(id, execution)
    if (execution.owner !== "") presence.expect(execution.owner)
    if (claimable(execution, isAlive)) look()
    if (one === undefined || revision <= one.recorded.revision) return Effect.void
    if (execution.owner !== presence.id) return Effect.asVoid(Effect.forkIn(abandon(one), scope))
    return noted(one, recorded)
  }

  /** What others have written into the record of an execution that is owned here. */
  const noted = (one: Owned, recorded: Recorded): Effect.Effect<void> => {
    const before = one.recorded.execution
    const { interrupted, wakes } = recorded.execution
    one.recorded = recorded
    if (interrupted === before.interrupted && wakes === before.wakes) return Effect.void
    wake(one, true)
    const { instance, attempt } = one
    if (interrupted !== "unsafe" || instance === null || attempt === null) return Effect.void
    instance.suspended = true // the next attempt finds the interruption
    return Effect.asVoid(Effect.forkIn(Fiber.interrupt(attempt), scope))
  }

  const claim = Effect.fnUntraced(function* (id: string) {
    const recorded = yield* store.get(id)
    if (recorded === null) return void records.delete(id)
    records.set(id, recorded.execution)
    const known = registered.get(recorded.execution.workflow)
    if (known === undefined || owned.has(id) || !claimable(recorded.execution, isAlive)) return
    const execution = claimed(recorded.execution, presence.id)
    const revision = yield* replaced(id, execution, recorded.revision)
    if (revision === null) return
    yield* Effect.logInfo(`${execution.workflow} ${id} goes on here, as epoch ${execution.epoch}`)
    yield* start(id, { execution, revision }, known)
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
      [...records].filter(([id, record]) => !owned.has(id) && claimable(record, isAlive)).map(([id]) => id),
      claim,
      { concurrency: CLAIMS, discard: true },
    ),
  )

  // -- the engine ----------------------------------------------------------------------------------------------------

  const create = Effect.fnUntraced(function* (id: string, execution: Execution) {
    const revision = yield* store.create(id, execution)
    if (revision !== null) return { execution, revision }
    const there = yield* store.get(id) // perhaps our own, whose acknowledgement was lost
    return there?.execution.owner === presence.id && !owned.has(id) ? there : null
  })

  const resultOf = Effect.fnUntraced(function* (workflow: Workflow.Any, id: string) {
    const stored = keepsJournal(workflow) ? null : yield* store.result(id)
    return stored === null ? null : resultCodec(workflow).decode(stored)
  })

  /** Runs it here if nobody has begun it; null where another has. */
  const begin = Effect.fnUntraced(function* (
    known: Registered,
    id: string,
    payload: object,
    parent: WorkflowEngine.WorkflowInstance["Service"] | undefined,
  ) {
    const running = owned.get(id)
    if (running !== undefined) return running
    const { workflow } = known
    const recorded = yield* create(id, {
      ...{
        workflow: workflow._tag,
        payload: yield* encodePayload(workflow, payload),
        parent: parent?.executionId ?? null,
      },
      ...{ owner: presence.id, epoch: 1, interrupted: null, wakes: 0 },
    })
    if (recorded === null) return null
    // A former execution of this id was over before the record was made, if it was not before.
    const before = yield* resultOf(workflow, id)
    if (before !== null) return yield* Effect.as(store.end(id, resultCodec(workflow).encode(before)), null)
    return yield* start(id, recorded, known)
  }, Effect.uninterruptible)

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
    execute: Effect.fnUntraced(function* (workflow, { executionId: id, payload, discard, parent, detached }) {
      const known = registered.get(workflow._tag)
      if (known === undefined) return yield* Effect.die(new Error(`the workflow ${workflow._tag} is not registered`))
      const one = yield* begin(known, id, payload, detached === true ? undefined : parent)
      if (discard) return
      if (one === null) return (yield* resultOf(workflow, id)) ?? SUSPENDED
      const suspended = parent === undefined ? Effect.never : Effect.as(one.suspended.await, SUSPENDED)
      return yield* Effect.raceFirst(Deferred.await(one.done), suspended)
    }) as WorkflowEngine.Encoded["execute"], // void where it is discarded, which no signature of a generator says
    awaitComplete: (_, id) =>
      Effect.suspend(() => (records.has(id) || owned.has(id) ? nextEnd : Effect.void)).pipe(
        Effect.repeat({ while: () => records.has(id) || owned.has(id) }),
      ),
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
    deferredDone: ({ executionId, deferredName, exit }) =>
      Effect.asVoid(
        store.writeOnce("deferred", executionId, deferredName, ACTIVITY.encode(new Workflow.Complete({ exit }))),
      ),
    scheduleClock: Effect.fnUntraced(function* (workflow, { executionId, clock }) {
      const due = Date.now() + Duration.toMillis(clock.duration)
      const at = Number(yield* store.writeOnce("clock", executionId, clock.name, due))
      const ring = engine.deferredDone(clock.deferred, {
        ...{ workflowName: workflow._tag, executionId, deferredName: clock.deferred.name },
        exit: Exit.void,
      })
      const one = owned.get(executionId)
      yield* Effect.forkIn(Effect.delay(ring, Math.max(0, at - Date.now())), one?.scope ?? scope)
    }),
  }
  const engine = WorkflowEngine.makeUnsafe(encoded)

  // -- its life ------------------------------------------------------------------------------------------------------

  const handOver = Effect.fnUntraced(function* (one: Owned) {
    yield* abandon(one)
    yield* store.replace(one.id, handedOver(one.recorded.execution), one.recorded.revision)
  })
  yield* Effect.addFinalizer(() =>
    Effect.forEach([...owned.values()], handOver, { concurrency: "unbounded", discard: true }).pipe(
      Effect.timeoutOption(HAND_OVER_MILLIS),
      Effect.andThen(Scope.close(scope, Exit.void)),
    ),
  )
  yield* Effect.forkScoped(store.follow(hear))
  yield* Effect.forkScoped(
    store.followDeferreds((id, name) =>
      Effect.suspend(() => {
        const one = owned.get(id)
        if (one === undefined) return Effect.void
        wake(one, false)
        return Effect.asVoid(Effect.forkIn(deferreds.deferredDone(id, name), scope))
      }),
    ),
  )
  yield* Effect.forkScoped(Stream.runForEach(Stream.fromPubSub(presence.deaths), () => Effect.sync(look)))
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Queue.take(orphans), sweep)))
  const executions = Executions.of({
    running: () => owned.size,
    idle: Effect.suspend(() => (owned.size === 0 ? Effect.void : nextEnd)).pipe(
      Effect.repeat({ while: () => owned.size > 0 }),
    ),
  })
  return Context.make(WorkflowEngine.WorkflowEngine, engine).pipe(Context.add(Executions, executions))
})

/** A safe interruption waits until the run would wait. */
const interruptsNow = (
  { interrupted }: Execution,
  { workflow, suspended, abandoned }: WorkflowEngine.WorkflowInstance["Service"],
  exit: Exit.Exit<unknown, unknown>,
): boolean => {
  if (interrupted === null || abandoned) return false
  const failed = Exit.isFailure(exit) && Context.get(workflow.annotations, Workflow.SuspendOnFailure)
  return interrupted === "unsafe" || suspended || failed
}

const exitOf = (result: WorkflowResult): Exit.Exit<unknown, unknown> =>
  result._tag === "Complete" ? result.exit : Exit.void

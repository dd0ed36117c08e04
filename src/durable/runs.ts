// The executions that this process owns: each runs in a fibre, attempt by attempt, until one completes, or until it is
// another owner's.
import { Context, Deferred, Effect, Exit, Fiber, Latch, Scope } from "effect"
import { Workflow, WorkflowEngine } from "effect/workflow"
import type { Changes } from "../bus/changes.ts"
import { payloadCodec, resultCodec } from "./codec.ts"
import { type Execution, Ownership } from "./ownership.ts"
import type { Recorded, Store } from "./store.ts"

/**
 * A workflow with this annotation keeps a journal of its own: its activities are not recorded, nor is its result, and who
 * takes it over finds the way by itself.
 */
export const OwnJournal = Context.Reference<boolean>("chorus/durable/OwnJournal", { defaultValue: () => false })

export const keepsJournal = ({ annotations }: Workflow.Any): boolean => Context.get(annotations, OwnJournal)

export interface Registered {
  readonly workflow: Workflow.Any
  readonly execute: (
    payload: object,
    id: string,
  ) => Effect.Effect<unknown, unknown, WorkflowEngine.WorkflowInstance | WorkflowEngine.WorkflowEngine>
}

type WorkflowResult = Workflow.Result<unknown, unknown>
type Instance = WorkflowEngine.WorkflowInstance["Service"]
export const SUSPENDED = new Workflow.Suspended({})

/** Records that are written side by side. */
const RECORDS = 8

/** An execution that is owned here. */
export interface Owned extends Registered {
  readonly id: string
  readonly payload: object
  readonly scope: Scope.Closeable
  readonly wake: Latch.Latch // opened by whatever may let a suspended run go on
  readonly suspended: Latch.Latch // open while the run is suspended
  readonly done: Deferred.Deferred<WorkflowResult> // Suspended where it was lost to another owner
  recorded: Recorded
  explicit: boolean // it was resumed by a caller, and not by what it waits for
  instance: Instance | null
  attempt: Fiber.Fiber<WorkflowResult> | null
  fiber: Fiber.Fiber<void> | null // all attempts
}

export interface Runs {
  readonly owned: ReadonlyMap<string, Owned>
  /** Whether it runs here, or has been abandoned and is still on its way out: two runs of one would undo each other's doings. */
  readonly has: (id: string) => boolean
  readonly start: (id: string, recorded: Recorded, known: Registered) => Effect.Effect<Owned>
  readonly wake: (id: string, explicit: boolean) => void
  /** Others have written into the record of one that is owned here. */
  readonly noted: (one: Owned, recorded: Recorded) => Effect.Effect<void>
  /** It has another owner, or is gone: it leaves without a word. */
  readonly abandon: (one: Owned) => Effect.Effect<void>
  /** The records are lost: those of the executions that run here are written again. */
  readonly recordAgain: Effect.Effect<void>
  /** A deferred is completed, which may be what a run waits for. */
  readonly completed: (id: string, deferred: string) => Effect.Effect<void>
}

export interface RunsOptions {
  readonly store: Store
  readonly scope: Scope.Scope // of all runs
  readonly engine: () => WorkflowEngine.WorkflowEngine["Service"]
  readonly changed: Changes // told whenever one has ended here
  readonly lost: () => void // a run has left before its end: its record may name this engine again, or none
}

export const runs = ({ store, scope, engine, changed, lost }: RunsOptions): Runs => {
  const owned = new Map<string, Owned>()
  const leaving = new Set<string>()
  const deferreds = WorkflowEngine.makeDeferredState()

  const start = Effect.fnUntraced(function* (id: string, recorded: Recorded, { workflow, execute }: Registered) {
    const payload = payloadCodec(workflow).decode(recorded.execution.payload)
    const one: Owned = {
      ...{ id, workflow, execute, payload, recorded },
      ...{ explicit: false, instance: null, attempt: null, fiber: null },
      ...{ scope: Scope.forkUnsafe(scope), done: Deferred.makeUnsafe() },
      ...{ wake: Latch.makeUnsafe(false), suspended: Latch.makeUnsafe(false) },
    }
    owned.set(id, one)
    one.fiber = yield* Effect.forkIn(Effect.ensuring(run(one), left(one)), scope)
    return one
  })

  /** Attempts until one completes. One that is interrupted from outside is another engine's to go on with. */
  const run = Effect.fnUntraced(function* (one: Owned) {
    for (;;) {
      one.wake.closeUnsafe()
      one.explicit = false
      const result = yield* attempt(one)
      if (result._tag === "Complete") return yield* Effect.uninterruptible(complete(one, result))
      one.suspended.openUnsafe()
      yield* resumed(one, result.failed === true)
      one.suspended.closeUnsafe()
    }
  })

  const attempt = (one: Owned): Effect.Effect<WorkflowResult> =>
    Effect.suspend(() => {
      const instance = WorkflowEngine.WorkflowInstance.initial(one.workflow, one.id, {
        scope: Scope.forkUnsafe(one.scope),
      })
      one.instance = instance
      const body = one.execute(one.payload, one.id).pipe(
        Effect.provideService(Ownership, { epoch: one.recorded.execution.epoch }),
        Effect.onExit((exit) => {
          if (!interruptsNow(one.recorded.execution, instance, exit)) return Effect.void
          instance.interrupted = true
          instance.suspended = false
          return Effect.interrupt
        }),
        Workflow.intoResult,
        Effect.provideService(WorkflowEngine.WorkflowEngine, engine()),
      )
      return Effect.flatMap(Effect.forkChild(deferreds.trackRun(instance, body)), (fiber) => {
        one.attempt = fiber
        return Effect.flatMap(
          Effect.onInterrupt(Fiber.await(fiber), () => Fiber.interrupt(fiber)),
          (exit) => {
            // A deferred that is completed in this moment interrupts it to be read, which is no end.
            if (!Exit.hasInterrupts(exit) || instance.abandoned) return exit
            one.wake.openUnsafe()
            return Effect.succeed(SUSPENDED)
          },
        )
      })
    })

  /** A run that has failed goes on only when it is resumed. */
  const resumed = Effect.fnUntraced(function* (one: Owned, failed: boolean) {
    for (;;) {
      yield* one.wake.await
      if (!failed || one.explicit) return
      one.wake.closeUnsafe()
    }
  })

  const complete = Effect.fnUntraced(function* (one: Owned, result: Workflow.Complete<unknown, unknown>) {
    yield* store.end(one.id, keepsJournal(one.workflow) ? null : resultCodec(one.workflow).encode(result))
    owned.delete(one.id)
    yield* Deferred.succeed(one.done, result)
  })

  const left = (one: Owned) =>
    Effect.suspend(() => {
      const early = owned.get(one.id) === one
      if (early) {
        owned.delete(one.id)
        leaving.add(one.id)
      }
      changed.tell()
      const closed = Effect.andThen(Deferred.succeed(one.done, SUSPENDED), Scope.close(one.scope, Exit.void))
      return early ? Effect.ensuring(closed, gone(one.id)) : closed
    })

  /** Nothing of it runs here any more: it may be taken up again. */
  const gone = (id: string) =>
    Effect.sync(() => {
      leaving.delete(id)
      lost()
    })

  const wake = (id: string, explicit: boolean): void => {
    const one = owned.get(id)
    if (one === undefined) return
    one.explicit ||= explicit
    one.wake.openUnsafe()
  }

  const noted = (one: Owned, recorded: Recorded): Effect.Effect<void> => {
    const before = one.recorded.execution
    const { interrupted, wakes } = recorded.execution
    one.recorded = recorded
    if (interrupted === before.interrupted && wakes === before.wakes) return Effect.void
    wake(one.id, true)
    const { instance, attempt } = one
    if (interrupted !== "unsafe" || instance === null || attempt === null) return Effect.void
    instance.suspended = true // the next attempt finds the interruption
    return Effect.asVoid(Effect.forkIn(Fiber.interrupt(attempt), scope))
  }

  const abandon = Effect.fnUntraced(function* (one: Owned) {
    if (owned.get(one.id) === one) owned.delete(one.id)
    if (one.instance !== null) one.instance.abandoned = true
    if (one.fiber === null) return
    leaving.add(one.id)
    yield* Effect.ensuring(Fiber.interrupt(one.fiber), gone(one.id))
  })

  /** One that another has taken meanwhile goes on there. */
  const recordOne = Effect.fnUntraced(function* (one: Owned) {
    const { execution } = one.recorded
    const revision = yield* store.create(one.id, execution)
    const now = revision === null ? yield* store.get(one.id) : { execution, revision }
    if (now?.execution.owner === execution.owner) one.recorded = now
    else if (now !== null) yield* abandon(one)
  })

  const recordAgain = Effect.suspend(() =>
    Effect.forEach(
      [...owned.values()],
      (one) => Effect.catch(recordOne(one), ({ message }) => Effect.logWarning(message)),
      {
        ...{ concurrency: RECORDS, discard: true },
      },
    ),
  )

  const completed = (id: string, deferred: string): Effect.Effect<void> => {
    if (!owned.has(id)) return Effect.void
    wake(id, false)
    return Effect.asVoid(Effect.forkIn(deferreds.deferredDone(id, deferred), scope))
  }

  const has = (id: string): boolean => owned.has(id) || leaving.has(id)

  return { owned, has, start, wake, noted, abandon, recordAgain, completed }
}

/** A safe interruption waits until the run would wait. */
const interruptsNow = (
  { interrupted }: Execution,
  { workflow, suspended, abandoned }: Instance,
  exit: Exit.Exit<unknown, unknown>,
): boolean => {
  if (interrupted === null || abandoned) return false
  const failed = Exit.isFailure(exit) && Context.get(workflow.annotations, Workflow.SuspendOnFailure)
  return interrupted === "unsafe" || suspended || failed
}

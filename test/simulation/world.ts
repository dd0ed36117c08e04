// The simulated world: one clock for all, and processes that do nothing but at its times. What runs in a process runs as it
// does in the product, on effect's own runtime; only its scheduler and its clock are the world's. A process that is killed
// does nothing more, not even its finalizers; one that is stopped does it all later.
import { Clock, Context, Duration, Effect, Exit, type Fiber, Logger, Scheduler } from "effect"
import type { Random } from "./random.ts"

interface Event {
  readonly at: number // milliseconds
  readonly order: number // of those at one time
  readonly process: Process | null
  readonly task: () => void
}

const LOOK_EVENTS = 32

export class World {
  readonly random: Random
  readonly #events: Array<Event> = [] // a binary heap
  readonly #note: ((line: string) => void) | null
  #now = 0
  #order = 0
  events = 0
  readonly defects: Array<string> = []

  constructor(random: Random, note: ((line: string) => void) | null) {
    this.random = random
    this.#note = note
  }

  get now(): number {
    return this.#now
  }

  note(line: () => string): void {
    this.#note?.(`${this.#now.toFixed(3).padStart(11)}  ${line()}`)
  }

  /** After this many milliseconds, if the process still lives then. */
  after(millis: number, process: Process | null, task: () => void): void {
    this.#push({ at: this.#now + millis, order: this.#order++, process, task })
  }

  /** Until nothing is left to happen, the time is over, or `done` says so, which is asked now and then. */
  run(until: number, done: () => boolean = () => false): void {
    for (;;) {
      const [next] = this.#events
      if (next === undefined || next.at > until || (this.events % LOOK_EVENTS === 0 && done())) break
      this.#pop()
      this.#now = next.at
      this.events++
      if (next.process === null) next.task()
      else next.process.perform(next.task)
    }
  }

  #push(event: Event): void {
    const heap = this.#events
    let at = heap.length
    heap.push(event)
    while (at > 0) {
      const above = (at - 1) >> 1
      const parent = heap[above]
      if (parent === undefined || !before(event, parent)) break
      heap[at] = parent
      at = above
    }
    heap[at] = event
  }

  #pop(): void {
    const heap = this.#events
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      let child = heap[below]
      const other = heap[below + 1]
      if (child !== undefined && other !== undefined && before(other, child)) {
        below++
        child = other
      }
      if (child === undefined || !before(child, last)) break
      heap[at] = child
      at = below
    }
    heap[at] = last
  }
}

const before = (a: Event, b: Event): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

export class Process {
  readonly world: World
  readonly name: string
  readonly pid: number
  readonly context: Context.Context<never>
  alive = true
  /** Called when it is killed. */
  ended: () => void = () => {}
  #stopped = false
  #held: Array<() => void> = []

  /** `drift`: how fast its clock goes. */
  constructor(world: World, name: string, pid: number, drift: number) {
    this.world = world
    this.name = name
    this.pid = pid
    this.context = Context.make(Scheduler.Scheduler, schedulerOf(this)).pipe(
      Context.add(Clock.Clock, clockOf(this, drift)),
      Context.add(Logger.CurrentLoggers, new Set<never>()),
    )
  }

  after(millis: number, task: () => void): void {
    this.world.after(millis, this, task)
  }

  perform(task: () => void): void {
    if (!this.alive) return
    if (this.#stopped) this.#held.push(task)
    else task()
  }

  /** Runs an effect in this process. */
  fork<A, E>(effect: Effect.Effect<A, E>, ended: (exit: Exit.Exit<A, E>) => void = () => {}): Fiber.Fiber<A, E> {
    const fiber = Effect.runForkWith(this.context)(effect)
    fiber.addObserver((exit) => {
      if (Exit.hasDies(exit)) this.world.defects.push(`${this.name}: ${exit}`)
      ended(exit)
    })
    return fiber
  }

  kill(): void {
    if (!this.alive) return
    this.world.note(() => `${this.name} is killed`)
    this.alive = false
    this.#held = []
    this.ended()
  }

  stop(): void {
    this.world.note(() => `${this.name} is stopped`)
    this.#stopped = true
  }

  resume(): void {
    this.world.note(() => `${this.name} goes on`)
    this.#stopped = false
    for (const task of this.#held.splice(0)) this.after(0, task)
  }
}

/** A turn of the event loop takes no time, but others' turns come in between. */
const schedulerOf = (process: Process): Scheduler.Scheduler =>
  new Scheduler.MixedScheduler("async", (turn) => {
    let cancelled = false
    process.after(0, () => (cancelled ? undefined : turn()))
    return () => {
      cancelled = true
    }
  })

export const EPOCH = Date.UTC(2026, 0, 1)

const clockOf = (process: Process, drift: number): Clock.Clock => {
  const { world } = process
  const millis = () => EPOCH + world.now * drift
  const nanos = () => BigInt(Math.round(millis() * 1e6))
  return {
    currentTimeMillisUnsafe: millis,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: nanos,
    monotonicTimeNanos: Effect.sync(nanos),
    sleep: (duration) =>
      Effect.callback<void>((resume) => {
        let left = false
        const millis = Duration.toMillis(duration) / drift
        if (Number.isFinite(millis)) process.after(millis, () => (left ? undefined : resume(Effect.void)))
        return Effect.sync(() => {
          left = true
        })
      }),
  }
}

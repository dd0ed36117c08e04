// The engine as this rank's passes share it: one stretch at a time, so that stopping a session's stretch stops no other
// session's, and failures as PassFailed.

import { Context, Effect, Layer, Schema, type Scope, Semaphore } from "effect"
import {
  BACKENDS,
  type Device,
  type Engine,
  native,
  type Op,
  type Pass,
  type Sampling,
  type Segment,
  type Shard,
  type StretchResult,
} from "../../../native/index.ts"
import { kvTypeOf, type Model } from "../../model/index.ts"
import { Coalescer, merge } from "./coalesce.ts"
import { Rest } from "./rest.ts"

/** The engine refused or could not finish what it was asked for. */
export class ComputeFailed extends Schema.TaggedError<ComputeFailed>()("ComputeFailed", { reason: Schema.String }) {
  override get message() {
    return this.reason
  }
}

export interface LoadOptions {
  readonly model: Model
  readonly shard: Shard
  readonly device: string // "auto": a GPU where there is one
  readonly threads: number
  readonly deterministic: boolean
  readonly progress?: (fraction: number) => void
}

/** A pass on this rank's device. */
export interface Batch {
  readonly tokens: number
  /** Microseconds of computing so far. */
  readonly micros: () => number
  /** One native call. Interruption stops it, and waits until it has stopped. */
  readonly run: (ops: ReadonlyArray<Op>) => Effect.Effect<StretchResult, ComputeFailed>
}

export class Compute extends Context.Service<
  Compute,
  {
    readonly device: Device
    readonly maxRows: number
    readonly bytesOfWeights: number
    readonly bytesOfKv: () => number
    readonly bytesOfKvPerToken: () => number
    readonly kvTokens: () => number // for which there was memory when the weights were in it
    /** Makes it one of a part of the shard that was loaded. There are no sessions. */
    readonly narrow: (shard: Shard) => Effect.Effect<void, ComputeFailed>
    /** Time that the device has computed so far. */
    readonly computeMillis: () => number
    readonly open: (session: string, sampling: Sampling) => Effect.Effect<void, ComputeFailed>
    readonly close: (session: string) => Effect.Effect<void>
    readonly holds: (session: string) => boolean
    readonly sessions: () => ReadonlyArray<string>
    readonly used: (session: string) => number
    readonly committed: (session: string) => number
    readonly commit: (session: string, slots: Int32Array) => Effect.Effect<void, ComputeFailed>
    readonly truncate: (session: string, length: number) => Effect.Effect<void, ComputeFailed>
    /** A session's committed KV of positions [from, to). Closing it meanwhile waits. */
    readonly kvExport: (session: string, from: number, to: number) => Effect.Effect<Uint8Array, ComputeFailed>
    /** Appends what `kvExport` gave, of an engine of the same shard. */
    readonly kvImport: (session: string, bytes: Uint8Array) => Effect.Effect<void, ComputeFailed>
    /** Gives an empty session the KV of another one's first tokens; false where that does not hold them. Closing either meanwhile waits. */
    readonly copy: (from: string, to: string, length: number) => Effect.Effect<boolean, ComputeFailed>
    /**
     * A whole pass in one native call. What other sessions want of the device at the same time runs with it, where it is
     * the same; an interrupted one stops the device when it runs alone.
     */
    readonly once: (
      segments: ReadonlyArray<Segment>,
      ops: ReadonlyArray<Op>,
    ) => Effect.Effect<StretchResult, ComputeFailed>
    /** Runs `use` with a batch of the rows of one session, or of several. */
    readonly batch: <A, E>(
      segments: ReadonlyArray<Segment>,
      use: (batch: Batch) => Effect.Effect<A, E>,
    ) => Effect.Effect<A, E | ComputeFailed>
  }
>()("chorus/rank/Compute") {
  static layer(options: LoadOptions) {
    return Layer.effect(
      this,
      Effect.flatMap(LoadCompute, (load) => load(options)),
    )
  }
}

const load = Effect.fnUntraced(function* ({ model, shard, device: wanted, threads, ...options }: LoadOptions) {
  const device = yield* attempt(() => {
    native.loadBackends(BACKENDS)
    return choose(native.devices(), wanted)
  })
  const engine = yield* Effect.acquireRelease(
    Effect.tryPromise({
      try: () =>
        native.load(
          {
            ...{ shape: model.shape, tensors: model.tensors, shard, device: device.name, threads },
            ...{ deterministic: options.deterministic, kvType: kvTypeOf(model.shape) },
          },
          options.progress,
        ),
      catch: failed,
    }),
    (engine) => Effect.sync(() => engine.dispose()),
  )
  return of(engine, device)
})

/** How whoever runs here loads shards. */
export const LoadCompute = Context.Reference<
  (options: LoadOptions) => Effect.Effect<Compute["Service"], ComputeFailed, Scope.Scope>
>("chorus/rank/LoadCompute", { defaultValue: () => load })

const choose = (devices: ReadonlyArray<Device>, wanted: string): Device => {
  const device =
    wanted === "auto"
      ? (devices.find(({ kind }) => kind === "gpu") ?? devices.find(({ kind }) => kind === "cpu"))
      : devices.find(({ name }) => name === wanted)
  if (device !== undefined) return device
  throw new Error(
    `there is no device ${wanted}; this machine has ${devices.map(({ name }) => name).join(", ") || "none"}`,
  )
}

const of = (engine: Engine, device: Device) => {
  const turn = Semaphore.makeUnsafe(1)
  const rest = new Rest()
  let computed = 0 // microseconds
  const sessions = new Set<string>() // the engine's: asked for at every pass, and there may be thousands
  const memory = device.kind === "cpu" ? process.availableMemory() : device.memoryFree
  const atRest = <A>(session: string, use: () => Promise<A>) =>
    rest.at(session, Effect.uninterruptible(Effect.tryPromise({ try: use, catch: failed })))
  const runNow = (pass: Pass, ops: ReadonlyArray<Op>) =>
    Effect.callback<StretchResult, ComputeFailed>((resume) => {
      const running = promised(() => pass.run(ops))
      running.then(
        (result) => {
          computed += result.micros
          resume(Effect.succeed(result))
        },
        (error) => resume(Effect.fail(failed(error))),
      )
      return Effect.promise(() => {
        engine.abort()
        return running.then(ignore, ignore)
      })
    })
  const move = (session: string, slots: Int32Array) =>
    turn.withPermits(1)(
      Effect.uninterruptible(Effect.tryPromise({ try: () => engine.commit(session, slots), catch: failed })),
    )
  const run = (pass: Pass, ops: ReadonlyArray<Op>) => turn.withPermits(1)(runNow(pass, ops))
  const together = new Coalescer(turn, engine.maxRows, (stretches) =>
    Effect.acquireUseRelease(
      attempt(() => engine.begin(stretches.flatMap(({ segments }) => segments))),
      (pass) => runNow(pass, merge(stretches)),
      (pass) => Effect.sync(() => pass.end()),
    ),
  )
  return Compute.of({
    device,
    maxRows: engine.maxRows,
    bytesOfWeights: engine.bytesOfWeights,
    bytesOfKv: () => engine.bytesOfKv(),
    bytesOfKvPerToken: () => engine.bytesOfKvPerToken,
    kvTokens: () => tokensFor(memory, engine.bytesOfKvPerToken),
    narrow: (shard) => attempt(() => engine.narrow(shard)),
    computeMillis: () => computed / 1000,
    open: (session, sampling) =>
      attempt(() => {
        engine.open(session, sampling)
        sessions.add(session)
      }),
    close: (session) =>
      rest.at(
        session,
        Effect.sync(() => {
          if (!sessions.has(session)) return
          engine.close(session)
          sessions.delete(session)
        }),
      ),
    kvExport: (session, from, to) => atRest(session, () => engine.kvExport(session, from, to)),
    kvImport: (session, bytes) => atRest(session, () => engine.kvImport(session, bytes)),
    copy: (from, to, length) =>
      // Another one that begins, so no fibre takes the two the other way round.
      rest.at(
        to,
        atRest(from, async () => {
          if (!sessions.has(from) || engine.committed(from) < length) return false
          await engine.kvImport(to, await engine.kvExport(from, 0, length))
          return true
        }),
      ),
    holds: (session) => sessions.has(session),
    sessions: () => [...sessions],
    used: (session) => engine.used(session),
    committed: (session) => engine.committed(session),
    commit: (session, slots) =>
      Effect.suspend(() => {
        try {
          if (!inPlace(slots, engine.committed(session))) return move(session, slots)
          engine.commit(session, slots)
          return Effect.void
        } catch (error) {
          return Effect.fail(failed(error))
        }
      }),
    truncate: (session, length) => attempt(() => engine.truncate(session, length)),
    once: (segments, ops) => together.run({ segments, ops }),
    batch: (segments, use) =>
      Effect.acquireUseRelease(
        attempt(() => engine.begin(segments)),
        (pass) => {
          let micros = 0
          const counted = (ops: ReadonlyArray<Op>) =>
            Effect.tap(run(pass, ops), (result) => Effect.sync(() => (micros += result.micros)))
          const tokens = segments.reduce((sum, { tokens }) => sum + tokens.length, 0)
          return use({ tokens, micros: () => micros, run: counted })
        },
        (pass) => Effect.sync(() => pass.end()),
      ),
  })
}

/** A session's KV grows by doubling, so half of the memory may be taken and not yet used. */
const tokensFor = (bytesFree: number, bytesOfKvPerToken: number): number =>
  Math.min(2 ** 31 - 1, Math.floor(bytesFree / 2 / Math.max(1, bytesOfKvPerToken)))

/** Whether the slots are the next ones, so that nothing has to be moved for them to be kept. */
const inPlace = (slots: Int32Array, committed: number): boolean => slots.every((slot, i) => slot === committed + i)

const promised = async <A>(start: () => Promise<A>): Promise<A> => start()
const ignore = () => undefined
const failed = (error: unknown) => new ComputeFailed({ reason: error instanceof Error ? error.message : String(error) })
const attempt = <A>(call: () => A) => Effect.try({ try: call, catch: failed })

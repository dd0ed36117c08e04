// A standby: the whole model's weights, and all the KV that its group's ranks have committed, ready to be any one of them.
// A rank that is lost is replaced by it without a prefill: the sessions go on from what it holds.
import { Effect, Result } from "effect"
import type { Shard } from "../../../native/index.ts"
import { Bus } from "../../bus/bus.ts"
import { codec } from "../../wire/codec.ts"
import { Assembly, type KvWish, WISH_MILLIS, wishes } from "../../wire/kv.ts"
import { GroupControl } from "../../wire/pass.ts"
import { type GroupPlace, groupSubjects } from "../../wire/subjects.ts"
import type { Compute } from "../device/compute.ts"
import type { Restored, StandbyStore } from "./standbyStore.ts"

const controls = codec("group control", GroupControl)

/** Hears what the group's ranks commit and free, until the scope closes. */
export const listen = Effect.fnUntraced(function* (place: GroupPlace, store: StandbyStore) {
  const { publish, subscribe } = yield* Bus
  const subjects = groupSubjects(place)
  const runFork = Effect.runForkWith(yield* Effect.context())
  const assemblies = new Map<string, Assembly>() // by subject: one of each rank
  const wish = (wish: KvWish): void => publish(subjects.kvWish, wishes.encode(wish))
  const hear = (subject: string, message: Uint8Array): void => {
    const assembly = assemblies.get(subject) ?? new Assembly()
    assemblies.set(subject, assembly)
    const delta = assembly.deliver(message)
    if (Result.isFailure(delta)) return void runFork(Effect.logWarning(delta.failure.message))
    if (delta.success === null || delta.success._tag !== "KvDelta") return
    const { session, rank } = delta.success
    const from = store.add(delta.success)
    if (from !== null) wish({ _tag: "Missing", session, rank, from })
  }
  const control = (message: Uint8Array): void => {
    const decoded = controls.decode(message)
    if (Result.isSuccess(decoded)) store.free(decoded.success.session)
  }
  yield* subscribe(subjects.kvs, ({ subject, data }) => hear(subject, data))
  yield* subscribe(subjects.control, ({ data }) => control(data))
  const listening = Effect.sync(() => wish({ _tag: "Listening" }))
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(listening, Effect.sleep(WISH_MILLIS))))
})

/** Takes a rank's place: the engine is one of its shard from now on, with the sessions as far as they are held. */
export const takePlace = Effect.fnUntraced(function* (
  compute: Compute["Service"],
  store: StandbyStore,
  shard: Shard,
  rank: number,
) {
  yield* compute.narrow(shard)
  for (const restored of store.take(rank)) {
    yield* restore(compute, restored).pipe(
      Effect.catch(({ message }) =>
        // It is prefilled then, and the others go on.
        Effect.andThen(Effect.logWarning(`the KV of ${restored.session}: ${message}`), compute.close(restored.session)),
      ),
    )
  }
})

const restore = Effect.fnUntraced(function* (compute: Compute["Service"], { session, sampling, rows }: Restored) {
  yield* compute.open(session, sampling)
  for (const { end, values } of rows) {
    yield* compute.kvImport(session, values)
    yield* compute.truncate(session, end)
  }
})

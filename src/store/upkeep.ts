// Looks after a stream: one that is gone, as when it was deleted or the server's store was emptied, is made again, and the
// code that has something to put back into it is told; also where another process was quicker to make it.
import { Effect, Semaphore } from "effect"
import { StorageRefused } from "../wire/errors.ts"
import { type BucketStream, type LogStream, Storage, type StorageError } from "./storage.ts"

const LOOK_MILLIS = 1_000

export interface Upkeep<R> {
  readonly stream: LogStream | BucketStream
  /** There is another one than before, without what was in that. */
  readonly remade: Effect.Effect<void, never, R>
}

/** Runs a question to a stream; where that is gone it is made again, and asked once more. */
export const remaking = <A, E>(
  make: Effect.Effect<void, StorageError>,
  question: Effect.Effect<A, E>,
): Effect.Effect<A, E | StorageError> =>
  Effect.catch(question, (error) =>
    isMissing(error) ? Effect.andThen(make, question) : Effect.fail<E | StorageError>(error),
  )

const isMissing = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "StreamMissing"

/** Looks until the scope closes. The stream is there when this is called. Gives what looks at once. */
export const keepUp = Effect.fnUntraced(function* <R>({ stream, remade }: Upkeep<R>) {
  const { born, make, health } = yield* Storage
  const { stream: name } = stream
  let known = yield* Effect.catch(born(name), () => Effect.succeed(null))
  const turn = Semaphore.makeUnsafe(1)
  const look = Effect.gen(function* () {
    const now = yield* remaking(make(stream), born(name))
    if (now === known) return
    const first = known === null
    known = now
    if (first) return
    yield* Effect.logWarning(`the stream ${name} is gone, with all that was in it: it was made again`)
    yield* remade
  }).pipe(
    turn.withPermits(1),
    Effect.catch((error) =>
      error instanceof StorageRefused && health.refuses(error, performance.now())
        ? Effect.logError(error.message)
        : Effect.void,
    ),
  )
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(LOOK_MILLIS), look)))
  return look
})

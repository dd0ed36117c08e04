// Looks after a stream: one that is gone, as when somebody has deleted it or emptied the server's store, is made again, and
// whoever has something to put back into it is told; also where another process was quicker to make it.
import { jetstreamManager } from "@nats-io/jetstream"
import { Effect, Semaphore } from "effect"
import { answered, Nats } from "../bus/nats.ts"
import { isMissing, refusalOf } from "./refusal.ts"
import { storageHealthOf } from "./storageHealth.ts"

const LOOK_MILLIS = 1_000

export interface Upkeep<R> {
  readonly stream: string
  /** Makes it where there is none. */
  readonly make: () => Promise<unknown>
  /** There is another one than before, without what was in that. */
  readonly remade: Effect.Effect<void, never, R>
}

/** Runs a question to a stream; where that is gone it is made again, and asked once more. */
export const remaking = <A>(
  make: () => Promise<unknown>,
  question: Effect.Effect<A, unknown>,
): Effect.Effect<A, unknown> =>
  Effect.catch(question, (error) =>
    isMissing(error)
      ? Effect.andThen(Effect.tryPromise({ try: make, catch: (cause) => cause }), question)
      : Effect.fail(error),
  )

/** Looks until the scope closes. The stream is there when this is called. Gives what looks at once. */
export const keepUp = Effect.fnUntraced(function* <R>({ stream, make, remade }: Upkeep<R>) {
  const { connection } = yield* Nats
  const health = storageHealthOf(connection)
  const { streams } = yield* Effect.promise(() => jetstreamManager(connection, { checkAPI: false }))
  const born = Effect.tryPromise({
    try: () => answered(connection, streams.info(stream)).then(({ created }) => created),
    catch: (error) => error,
  })
  let known = yield* Effect.catch(born, () => Effect.succeed(null))
  const turn = Semaphore.makeUnsafe(1)
  const look = Effect.gen(function* () {
    const now = yield* remaking(make, born)
    if (now === known) return
    const first = known === null
    known = now
    if (first) return
    yield* Effect.logWarning(`the stream ${stream} is gone, with all that was in it: it was made again`)
    yield* remade
  }).pipe(
    turn.withPermits(1),
    Effect.catch((error) => {
      const refused = refusalOf(stream, error)
      if (refused === null || !health.refuses(refused, performance.now())) return Effect.void
      return Effect.logError(refused.message)
    }),
  )
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(LOOK_MILLIS), look)))
  return look
})

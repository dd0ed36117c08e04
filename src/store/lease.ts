// A lease: one holder at a time, of a key that ends by itself when it is not renewed. A holder that loses it is told at once.
import { hostname } from "node:os"
import { Effect, Schedule } from "effect"
import { bucketOf, remove, writeOver } from "./keys.ts"
import { Storage } from "./storage.ts"

/** A holder that is silent for so long has lost it. */
export const LEASE_MILLIS = 2_000
export const RENEW_MILLIS = 500

/** How often the others try to get it. */
const TRY_MILLIS = 250

/** The bucket of all leases: its keys end by themselves. */
export const LEASES = bucketOf("chorus_leases", { keepMillis: LEASE_MILLIS })

/** As soon as there is one. */
export const openLeases = Effect.flatMap(Storage, ({ make }) => make(LEASES)).pipe(
  Effect.retry({ schedule: Schedule.spaced("1 second") }),
)

/**
 * Runs `use` while the lease is held, again and again whenever it is got. Never ends: where `use` fails, as when the server goes
 * away just then, the lease is given back and sought anew.
 */
export const holding = Effect.fnUntraced(function* <E extends { readonly message: string }, R>(
  key: string,
  holder: string,
  use: Effect.Effect<never, E, R>,
) {
  yield* openLeases
  const storage = yield* Storage
  const value = `process ${holder} on ${hostname()}`
  const write = (revision: number) => writeOver(storage, LEASES, key, value, revision)
  const get = Effect.flatMap(write(0), Effect.fromNullishOr).pipe(
    Effect.retry({ schedule: Schedule.spaced(TRY_MILLIS) }), // taken, or the server is away
  )
  const renew = (first: number) =>
    Effect.gen(function* () {
      let revision = first
      let renewed = performance.now()
      for (;;) {
        yield* Effect.sleep(RENEW_MILLIS)
        const next = yield* Effect.catch(write(revision), () => Effect.succeed("unanswered" as const))
        if (typeof next === "number") {
          revision = next
          renewed = performance.now()
        } else if (next === null || performance.now() - renewed > LEASE_MILLIS) return
      }
    })
  const release = remove(storage, LEASES, key).pipe(Effect.timeout("1 second"), Effect.ignore)
  const term = Effect.acquireUseRelease(
    Effect.interruptible(get), // it may take for ever
    (revision) => Effect.raceFirst(Effect.as(renew(revision), "lost" as const), use),
    // Given back where it is still ours; lost, it may be another's by now.
    (_, exit) => (exit._tag === "Success" ? Effect.void : release),
  )
  const again = (error: { readonly message: string }) =>
    Effect.andThen(Effect.logWarning(`the lease ${key} is given back: ${error.message}`), Effect.sleep(TRY_MILLIS))
  return yield* Effect.forever(Effect.catch(term, again))
})

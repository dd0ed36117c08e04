// A lease: one holder at a time, of a key that ends by itself when it is not renewed. Whoever loses it is told at once.
import { hostname } from "node:os"
import type { NatsConnection } from "@nats-io/transport-node"
import { Effect, Schedule } from "effect"
import { Nats } from "../bus/nats.ts"
import { openKv, writeOver } from "./bucket.ts"

export const LEASES = "chorus_leases"

/** A holder that is silent for so long has lost it. */
export const LEASE_MILLIS = 2_000
export const RENEW_MILLIS = 500

/** How often the others try to get it. */
const TRY_MILLIS = 250

/** The bucket of all leases: its keys end by themselves. */
export const makeLeases = (connection: NatsConnection) => () => openKv(connection, LEASES, { ttl: LEASE_MILLIS })

/** As soon as there is one. */
export const openLeases = Effect.flatMap(Nats, ({ connection }) => Effect.tryPromise(makeLeases(connection))).pipe(
  Effect.retry({ schedule: Schedule.spaced("1 second") }),
)

/** Runs `use` while the lease is held, again and again whenever it is got. Never ends. */
export const holding = Effect.fnUntraced(function* <E, R>(
  key: string,
  holder: string,
  use: Effect.Effect<never, E, R>,
) {
  const leases = yield* openLeases
  const { connection } = yield* Nats
  const value = `process ${holder} on ${hostname()}`
  const write = (revision: number) => writeOver(connection, { bucket: LEASES, key }, value, revision)
  const get = Effect.flatMap(
    Effect.tryPromise(() => write(0)),
    Effect.fromNullishOr,
  ).pipe(
    Effect.retry({ schedule: Schedule.spaced(TRY_MILLIS) }), // taken, or the server is away
  )
  const renew = (first: number) =>
    Effect.gen(function* () {
      let revision = first
      let renewed = performance.now()
      for (;;) {
        yield* Effect.sleep(RENEW_MILLIS)
        const next = yield* Effect.promise(() => write(revision).catch(() => "unanswered" as const))
        if (typeof next === "number") {
          revision = next
          renewed = performance.now()
        } else if (next === null || performance.now() - renewed > LEASE_MILLIS) return
      }
    })
  const release = Effect.tryPromise(() => leases.delete(key)).pipe(Effect.timeout("1 second"), Effect.ignore)
  const term = Effect.acquireUseRelease(
    Effect.interruptible(get), // it may take for ever
    (revision) => Effect.raceFirst(Effect.as(renew(revision), "lost" as const), use),
    // Given back where it is still ours; lost, it may be another's by now.
    (_, exit) => (exit._tag === "Success" ? Effect.void : release),
  )
  return yield* Effect.forever(term)
})

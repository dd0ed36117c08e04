// A process says that it is alive, by a key of its own in a bucket whose keys end by themselves, and hears the others. Its
// engines, of which a process may have several, are owners by names that begin with its own: those that have closed are dead,
// though the process lives.
import { randomUUID } from "node:crypto"
import { Context, Effect, Layer, PubSub, type Scope, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { put, remove, watching } from "../store/keys.ts"
import { LEASES, openLeases, RENEW_MILLIS } from "../store/lease.ts"
import { Storage } from "../store/storage.ts"
import { minded } from "../store/storageHealth.ts"
import { keepUp, remaking } from "../store/upkeep.ts"
import { Liveness, TICK_MILLIS } from "./liveness.ts"

const KEYS = "owner"

export class Presence extends Context.Service<
  Presence,
  {
    /** The name of an owner of executions, until the scope closes. */
    readonly enter: Effect.Effect<string, never, Scope.Scope>
    readonly isAlive: (owner: string) => boolean
    /** An owner that a record names: it is dead unless it is heard from now on. */
    readonly expect: (owner: string) => void
    /** One element whenever a process has died, or has left. */
    readonly deaths: PubSub.PubSub<void>
  }
>()("chorus/durable/Presence") {
  static readonly layer = Layer.effect(
    this,
    Effect.suspend(() => present),
  )
}

const present = Effect.gen(function* () {
  const { connected } = yield* Bus
  const storage = yield* Storage
  const id = randomUUID()
  const key = `${KEYS}.${id}`
  yield* Effect.orDie(openLeases)
  const liveness = new Liveness(performance.now())
  const deaths = yield* PubSub.sliding<void>(1)
  const died = PubSub.publish(deaths, undefined)
  const entered = new Set<string>() // in this process
  let count = 0
  const enter = Effect.acquireRelease(
    Effect.sync(() => {
      const owner = `${id}.${count++}`
      entered.add(owner)
      return owner
    }),
    (owner) => {
      entered.delete(owner)
      return died
    },
  )
  let said = true // while the others cannot hear this process, it cannot hear them either
  const say = minded(storage.health, LEASES.stream, remaking(storage.make(LEASES), put(storage, LEASES, key, ""))).pipe(
    Effect.timeout("1 second"),
    Effect.match({ onSuccess: () => (said = true), onFailure: () => (said = false) }),
  )
  const lives = yield* SubscriptionRef.make(0)
  yield* keepUp({ stream: LEASES, remade: SubscriptionRef.update(lives, (life) => life + 1) })
  yield* say
  yield* Effect.addFinalizer(() => remove(storage, LEASES, key).pipe(Effect.timeout("1 second"), Effect.ignore))
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(RENEW_MILLIS), say)))
  yield* Effect.forkScoped(
    watching({ of: LEASES, key: `${KEYS}.*`, lives }, ({ key, text }) => {
      const owner = key.slice(KEYS.length + 1)
      if (text !== null) return Effect.sync(() => liveness.heard(owner))
      return Effect.andThen(
        Effect.sync(() => liveness.left(owner)),
        died,
      )
    }),
  )
  const tick = Effect.suspend(() =>
    liveness.tick(performance.now(), said && SubscriptionRef.getUnsafe(connected)) ? Effect.asVoid(died) : Effect.void,
  )
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(TICK_MILLIS), tick)))
  return Presence.of({
    enter,
    isAlive: (owner) => entered.has(owner) || (processOf(owner) !== id && liveness.isAlive(processOf(owner))),
    expect: (owner) => liveness.expect(processOf(owner)),
    deaths,
  })
})

const processOf = (owner: string): string => owner.split(".")[0] ?? owner

// The simulated key-value buckets: the records of executions, written by revision and followed by every supervisor, and the
// word of each supervisor that it is alive. With three copies a record is proposed first, as an entry of a log is.
import { Effect, PubSub, Queue, Schedule } from "effect"
import { Liveness, TICK_MILLIS } from "../../src/durable/liveness.ts"
import type { Execution } from "../../src/durable/ownership.ts"
import type { Presence } from "../../src/durable/presence.ts"
import type { Recorded, Store } from "../../src/durable/store.ts"
import { RENEW_MILLIS } from "../../src/store/lease.ts"
import type { Mutation } from "./mutation.ts"
import type { Answered, Network } from "./network.ts"
import { done, Proposals } from "./proposals.ts"
import type { Process, World } from "./world.ts"

type Heard = (id: string, recorded: Recorded | null) => void

export interface RecordServerOptions {
  readonly copies: 1 | 3
  readonly mutation: Mutation | null
}

interface Watcher {
  readonly process: Process
  readonly heard: Heard
}

export class RecordServer {
  readonly #world: World
  readonly #network: Network
  readonly #mutation: Mutation | null
  readonly #records = new Map<string, Recorded>()
  readonly #watchers = new Set<Watcher>()
  readonly #owners = new Map<string, Map<number, string>>() // of each record, by epochs
  readonly violations: Array<string> = []
  readonly #copies: 1 | 3
  readonly #proposals: Proposals
  #revision = 0

  constructor(world: World, network: Network, { copies, mutation }: RecordServerOptions) {
    this.#world = world
    this.#network = network
    this.#mutation = mutation
    this.#copies = copies
    this.#proposals = new Proposals(world)
  }

  get ids(): ReadonlyArray<string> {
    return [...this.#records.keys()]
  }

  get(id: string): Recorded | null {
    return this.#records.get(id) ?? null
  }

  /** Null where another writer was quicker; revision 0 is that of what is not there. `millis`: what the disk, or the copies, take. */
  write(id: string, execution: Execution, revision: number, millis: () => number): Answered<number | null> {
    const blind = this.#mutation === "a record is taken whatever its revision"
    if (this.#proposals.holder(id) !== undefined) return done(null, millis())
    if (!blind && (this.get(id)?.revision ?? 0) !== revision) return done(null, millis())
    if (this.#copies === 1) return done(this.#store(id, execution), millis())
    return this.#proposals.propose(id, id, millis(), () => this.#store(id, execution))
  }

  #store(id: string, execution: Execution): number {
    const { owner, epoch } = execution
    this.#world.note(() => `record ${id}: epoch ${epoch}, owner ${owner || "none"}`)
    if (owner !== "") this.#own(id, epoch, owner)
    this.#revision++
    this.#change(id, { execution, revision: this.#revision })
    return this.#revision
  }

  remove(id: string, millis: () => number): Answered<void> {
    const remove = (): void => {
      this.#revision++
      if (this.#records.has(id)) this.#change(id, null)
    }
    return this.#copies === 1 ? done(remove(), millis()) : this.#proposals.propose(id, id, millis(), remove)
  }

  watch(watcher: Watcher): void {
    this.#watchers.delete(watcher)
    this.#watchers.add(watcher)
    for (const [id, recorded] of this.#records) this.#tell(watcher, id, recorded)
  }

  unwatch(watcher: Watcher): void {
    this.#watchers.delete(watcher)
  }

  /** A record that is made anew, by a supervisor that does not know that the session has ended, counts from the start. */
  #own(id: string, epoch: number, owner: string): void {
    const owners = this.#owners.get(id) ?? new Map<number, string>()
    this.#owners.set(id, owners)
    const before = owners.get(epoch) ?? owner
    if (before !== owner) this.violations.push(`epoch ${epoch} of ${id} belongs to ${before} and to ${owner}`)
    owners.set(epoch, owner)
  }

  #change(id: string, recorded: Recorded | null): void {
    if (recorded === null) {
      this.#records.delete(id)
      this.#owners.delete(id)
    } else this.#records.set(id, recorded)
    for (const watcher of this.#watchers) this.#tell(watcher, id, recorded)
  }

  #tell({ process, heard }: Watcher, id: string, recorded: Recorded | null): void {
    this.#network.tell(process, () => heard(id, recorded))
  }
}

export interface StoreOptions {
  readonly process: Process
  readonly network: Network
  readonly server: RecordServer
  readonly diskMillis: () => number
  readonly mutation: Mutation | null
}

const AGAIN = Schedule.spaced("250 millis")

export const storeOf = ({ process, network, server, diskMillis, mutation }: StoreOptions): Store => {
  const own = new Set<string>() // that this process has written
  const careless = mutation === "an owner does not look whether it still is the owner"
  const always = <A>(serve: () => A): Effect.Effect<A> =>
    Effect.orDie(Effect.retry(network.call(process, serve, diskMillis), { schedule: AGAIN }))
  const slowly = <A>(serve: (millis: () => number) => Answered<A>): Effect.Effect<A> =>
    Effect.orDie(
      Effect.retry(
        network.callSlowly(process, () => serve(diskMillis)),
        { schedule: AGAIN },
      ),
    )
  const follow = Effect.fnUntraced(function* (heard: (id: string, recorded: Recorded | null) => Effect.Effect<void>) {
    const changes = yield* Queue.unbounded<readonly [string, Recorded | null]>()
    const watcher: Watcher = {
      process,
      heard: (id, recorded) => (careless && own.has(id) ? undefined : void Queue.offerUnsafe(changes, [id, recorded])),
    }
    const watch = always(() => server.watch(watcher))
    network.onEvent(process, (up) => {
      if (up) process.fork(watch)
      else server.unwatch(watcher)
    })
    yield* watch
    return yield* Effect.forever(Effect.flatMap(Queue.take(changes), ([id, recorded]) => heard(id, recorded)))
  })
  const write = (id: string, execution: Execution, revision: number) => {
    own.add(id)
    return slowly((millis) => server.write(id, execution, revision, millis))
  }
  return {
    create: (id, execution) => write(id, execution, 0),
    get: (id) => always(() => server.get(id)),
    replace: write,
    follow,
    lost: () => Effect.void, // no bucket is deleted here
    // Generate keeps a journal of its own, so none of these is ever asked for more.
    followDeferreds: () => Effect.never,
    part: () => Effect.succeed(null),
    writeOnce: (_part, _id, _name, value) => Effect.succeed(value),
    result: () => Effect.succeed(null),
    end: (id) => slowly((millis) => server.remove(id, millis)),
  }
}

export interface PresenceOptions {
  readonly process: Process
  readonly network: Network
  readonly id: string
  readonly others: () => ReadonlyArray<Present>
}

/** A supervisor that hears the others. */
export interface Present {
  readonly process: Process
  readonly heard: (owner: string) => void
}

export const presenceOf = Effect.fnUntraced(function* ({ process, network, id, others }: PresenceOptions) {
  const liveness = new Liveness(process.world.now)
  const deaths = yield* PubSub.sliding<void>(1)
  const say = Effect.sync(() => {
    for (const other of others()) network.send(process, other.process, () => other.heard(id))
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(say, Effect.sleep(RENEW_MILLIS))))
  const tick = Effect.suspend(() =>
    liveness.tick(process.world.now, network.isUp(process))
      ? Effect.asVoid(PubSub.publish(deaths, undefined))
      : Effect.void,
  )
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(TICK_MILLIS), tick)))
  const presence: Presence["Service"] = {
    enter: Effect.succeed(id),
    isAlive: (owner) => owner === id || liveness.isAlive(owner),
    expect: (owner) => liveness.expect(owner),
    deaths,
  }
  return { presence, heard: (owner: string) => liveness.heard(owner) }
})

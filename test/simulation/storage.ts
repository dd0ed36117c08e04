// The simulated JetStream: streams by subject, expected sequences, message ids that are known for a while, an acknowledgement
// that may be lost, and a tail of the log that may be. With three copies a message is proposed first: until it is applied,
// whoever else writes to its subject is refused, and whoever repeats it is told to wait; and a server that is not the leader may
// read an older log. Every bucket, lease and log of the product runs on it as it is.
import { Effect, Queue, Stream } from "effect"
import {
  type Appending,
  type BucketStream,
  type LogStream,
  Storage,
  type StorageError,
  StorageSilent,
  type Stored,
  StreamMissing,
} from "../../src/store/storage.ts"
import { StorageHealth } from "../../src/store/storageHealth.ts"
import type { Answered, Network } from "./network.ts"
import { done, Proposals } from "./proposals.ts"
import type { Process, World } from "./world.ts"

interface Kept extends Stored {
  readonly at: number // when
}

interface Watcher {
  readonly process: Process
  readonly patterns: ReadonlyArray<RegExp>
  readonly heard: (stored: Stored) => void
}

interface StreamState {
  readonly of: LogStream | BucketStream
  readonly born: string
  messages: Array<Kept> // of a bucket, the last of each subject
  last: number
  readonly watchers: Set<Watcher>
}

export interface StorageServerOptions {
  readonly duplicatesFirst: boolean // a repetition is a duplicate, whatever sequence it expects, as to nats-server 2.9
  readonly copies: 1 | 3
  readonly anySequence: (stream: string) => boolean // takes a message whatever sequence it expects: a breakage on purpose
}

/** How often a server that is asked is not the leader, and has not applied the newest messages. */
const BEHIND = 0.2
const BEHIND_MILLIS = 50

export class StorageServer {
  readonly #world: World
  readonly #network: Network
  readonly #of: StorageServerOptions
  readonly #streams = new Map<string, StreamState>()
  readonly #proposals: Proposals
  /** Sees what is stored. */
  stored: (stream: string, message: Stored) => void = () => {}

  constructor(world: World, network: Network, of: StorageServerOptions) {
    this.#world = world
    this.#network = network
    this.#of = of
    this.#proposals = new Proposals(world)
  }

  make(of: LogStream | BucketStream): void {
    if (this.#streams.has(of.stream)) return
    const born = `${this.#world.now}`
    this.#streams.set(of.stream, { of, born, messages: [], last: 0, watchers: new Set() })
  }

  stream(name: string): StreamState | undefined {
    return this.#streams.get(name)
  }

  /** The messages that there are; those of a bucket whose keys end by themselves go when their time is over. */
  messages(name: string): ReadonlyArray<Kept> {
    const stream = this.#streams.get(name)
    if (stream === undefined) return []
    const { of } = stream
    if (of._tag === "Bucket" && of.keepMillis !== undefined) {
      const oldest = this.#world.now - of.keepMillis
      stream.messages = stream.messages.filter(({ at }) => at > oldest)
    }
    return stream.messages
  }

  last(name: string, subject: string): Kept | undefined {
    return this.messages(name).findLast((one) => one.subject === subject)
  }

  /** As any of the servers has them. */
  anywhere(name: string): ReadonlyArray<Kept> {
    const behind = this.#of.copies > 1 && this.#world.random.chance(BEHIND) ? BEHIND_MILLIS : 0
    return this.messages(name).filter(({ at }) => at <= this.#world.now - behind)
  }

  /** Gives the answer when it is known. `millis`: what the disk, or the copies, take. */
  append(message: Appending, millis: number): Answered<number | null | "wait"> {
    const { stream, subject, id, after } = message
    const { copies, duplicatesFirst } = this.#of
    const holder = `${stream} ${subject}`
    const own = id ?? `${this.#world.random.fraction()}`
    if (id !== undefined && (duplicatesFirst || copies > 1)) {
      const known = this.messages(stream).find((one) => one.id === id)
      if (known !== undefined) return { answer: () => known.sequence, millis }
    }
    if (this.#proposals.holder(holder) === own) return { answer: () => "wait", millis }
    const held = this.#proposals.holder(holder) !== undefined
    const fits =
      after === undefined || this.#of.anySequence(stream) || (this.last(stream, subject)?.sequence ?? 0) === after
    if ((held && after !== undefined) || !fits) {
      this.#world.note(() => `${stream} refuses ${subject} after #${after}`)
      return { answer: () => null, millis }
    }
    if (copies === 1 || held) return done(this.#store(message), millis)
    return this.#proposals.propose(holder, own, millis, () => this.#store(message))
  }

  #store({ stream: name, subject, data, id, removes }: Appending): number {
    const stream = this.#streams.get(name)
    if (stream === undefined) return 0
    const sequence = ++stream.last
    const kept: Kept = { subject, sequence, data, id, removed: removes !== undefined, at: this.#world.now }
    if (stream.of._tag === "Bucket") stream.messages = stream.messages.filter((one) => one.subject !== subject)
    stream.messages.push(kept)
    this.#world.note(() => `${name} #${sequence}: ${subject}${kept.removed ? " is removed" : ""}`)
    this.stored(name, kept)
    for (const watcher of stream.watchers) this.#tell(watcher, kept)
    return sequence
  }

  /**
   * The server has died before its newest messages were on its disk. Of a session that has ended nobody would write them
   * again, so what `ends` says of is taken to be on the disk, and all that is before it.
   */
  loseTail(name: string, count: number, ends: (stored: Stored) => boolean): void {
    const stream = this.#streams.get(name)
    if (stream === undefined) return
    const { messages } = stream
    const ended = messages.findLastIndex(ends) + 1
    const lost = messages.splice(Math.max(ended, messages.length - count))
    stream.last -= lost.length
    for (const { subject, sequence } of lost) this.#world.note(() => `${name} #${sequence}: ${subject} is lost`)
  }

  watch(name: string, watcher: Watcher): number {
    const now = this.messages(name).filter(({ subject }) => watcher.patterns.some((one) => one.test(subject)))
    this.#streams.get(name)?.watchers.add(watcher)
    for (const stored of now) this.#tell(watcher, stored)
    return now.length
  }

  unwatch(name: string, watcher: Watcher): void {
    this.#streams.get(name)?.watchers.delete(watcher)
  }

  #tell(watcher: Watcher, stored: Stored): void {
    if (!watcher.patterns.some((one) => one.test(stored.subject))) return
    this.#network.tell(watcher.process, () => watcher.heard(stored))
  }
}

const patternOf = (subject: string): RegExp =>
  new RegExp(`^${subject.replaceAll(/[.$]/g, "\\$&").replaceAll("*", "[^.]+").replaceAll(">", ".+")}$`)

export interface StorageOptions {
  readonly process: Process
  readonly network: Network
  readonly server: StorageServer
  readonly diskMillis: () => number
  /** What this process reads, and what it is told of what it has written itself: for breakages on purpose. */
  readonly read?: (stored: Stored) => Stored
  readonly deaf?: (stream: string, stored: Stored) => boolean
}

const READ_MESSAGES = 64

export const storageOf = ({ process, network, server, diskMillis, ...broken }: StorageOptions): Storage["Service"] => {
  const { read = (stored) => stored, deaf = () => false } = broken
  const silent = (stream: string) => () => new StorageSilent({ stream, reason: "no answer" })
  const slowly = <A>(stream: string, serve: () => Answered<A>): Effect.Effect<A, StorageError> =>
    Effect.suspend(() => Effect.mapError(network.callSlowly(process, serve), silent(stream)))
  const there = <A>(stream: string, serve: () => A): Effect.Effect<A, StorageError> =>
    Effect.flatMap(
      slowly(stream, () => done(server.stream(stream) === undefined ? null : { found: serve() }, 0)),
      (answer) => (answer === null ? Effect.fail(new StreamMissing({ stream })) : Effect.succeed(answer.found)),
    )
  return Storage.of({
    health: new StorageHealth(),
    make: (of) => slowly(of.stream, () => done(server.make(of), diskMillis())),
    born: (stream) => there(stream, () => server.stream(stream)?.born ?? ""),
    append: (message) =>
      Effect.flatMap(
        slowly(message.stream, () =>
          server.stream(message.stream) === undefined
            ? done<"missing" | number | null | "wait">("missing", 0)
            : server.append({ ...message, data: message.data.slice() }, diskMillis()),
        ),
        (answer): Effect.Effect<number | null, StorageError> => {
          if (answer === "missing") return Effect.fail(new StreamMissing({ stream: message.stream }))
          return answer === "wait" ? Effect.fail(silent(message.stream)()) : Effect.succeed(answer)
        },
      ),
    newest: (stream, subject) => there(stream, () => server.last(stream, subject) ?? null),
    read: (stream, subject, from) =>
      there(stream, () =>
        server
          .anywhere(stream)
          .filter((one) => one.subject === subject && one.sequence >= from)
          .slice(0, READ_MESSAGES)
          .map(read),
      ),
    edge: (stream, subject, which) =>
      there(stream, () => {
        const all = server.messages(stream).filter((one) => one.subject === subject)
        return (which === "first" ? all[0] : all.at(-1)) ?? null
      }),
    age: (stream, subject) =>
      there(stream, () => {
        const first = server.messages(stream).find((one) => one.subject === subject)
        return first === undefined ? 0 : process.world.now - first.at
      }),
    changes: (stream, subjects) =>
      Effect.gen(function* () {
        const queue = yield* Queue.unbounded<Stored>()
        const watcher: Watcher = {
          ...{ process, patterns: subjects.map(patternOf) },
          heard: (stored) => (deaf(stream, stored) ? undefined : void Queue.offerUnsafe(queue, stored)),
        }
        const begin = there(stream, () => server.watch(stream, watcher))
        const kept = yield* Effect.acquireRelease(begin, () => Effect.sync(() => server.unwatch(stream, watcher)))
        return { kept, all: Stream.fromQueue(queue) }
      }),
    send: (stream) => Effect.fail(silent(stream)()), // readers here read at the server
  })
}

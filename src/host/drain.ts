// Draining a host: a wish in a bucket, which the host follows. It says so in its beats, the controller places its replicas
// elsewhere, and the command that wrote the wish may end meanwhile: all of it goes on.
import { Effect, Queue, Schema, SubscriptionRef } from "effect"
import { openBuckets, openDrains } from "../store/deployments.ts"
import type { HostBeat } from "../wire/host.ts"
import type { Replicas } from "../wire/replicas.ts"
import { type Hosts, watchHosts } from "./hosts.ts"

const LOOK_MILLIS = 500

export class UnknownHost extends Schema.TaggedError<UnknownHost>()("UnknownHost", {
  host: Schema.String,
  known: Schema.Array(Schema.String),
}) {
  override get message() {
    const known = this.known.length === 0 ? "none is heard there" : `there is ${this.known.join(", ")}`
    return `no host ${this.host}: ${known}. \`chorus ps\` shows those that have joined.`
  }
}

export class HostGone extends Schema.TaggedError<HostGone>()("HostGone", { host: Schema.String }) {
  override get message() {
    return `host ${this.host} is not heard any more. It goes on draining when it joins again.`
  }
}

export interface Draining {
  readonly host: string
  readonly limitMillis: number // how long sessions may go on there before they do so elsewhere
  readonly tell: (line: string) => void // how far it is, and what is in the way
}

/** Ends when the host drains and has no rank left. */
export const drainHost = Effect.fnUntraced(function* ({ host, limitMillis, tell }: Draining) {
  const drains = yield* openDrains
  const records = yield* Effect.flatMap(openBuckets, ({ replicas }) => replicas.follow)
  const changes = yield* Queue.sliding<void>(1)
  const hosts: Hosts = yield* watchHosts(() => void Queue.offerUnsafe(changes, undefined))
  yield* hosts.settled
  if (!hosts.all().has(host)) return yield* new UnknownHost({ host, known: [...hosts.all().keys()].sort() })
  yield* drains.put(host, { limitMillis })
  let told = ""
  for (;;) {
    const beat = hosts.all().get(host)
    if (beat === undefined) return yield* new HostGone({ host })
    if (beat.state !== "ready" && beat.ranks.length === 0) return
    const replicas = [...SubscriptionRef.getUnsafe(records)].map(([name, { value }]) => ({ name, value }))
    const line = [`${host} drains: ${leftOf(beat)}`, ...replicas.flatMap((one) => hindrance(host, one))].join("; ")
    if (line !== told) tell(line)
    told = line
    yield* Effect.raceFirst(Queue.take(changes), Effect.sleep(LOOK_MILLIS))
  }
})

/** The host takes ranks again. False where it did not drain. */
export const undrainHost = Effect.fnUntraced(function* (host: string) {
  const drains = yield* openDrains
  if ((yield* drains.get(host)) === null) return false
  yield* drains.remove(host)
  return true
})

const leftOf = ({ ranks }: HostBeat): string => {
  const names = [...new Set(ranks.map(({ deployment }) => deployment))].sort()
  return `${ranks.length} ${ranks.length === 1 ? "rank is" : "ranks are"} left, of ${names.join(", ")}`
}

/** Why a deployment stays where it is. */
const hindrance = (host: string, { name, value }: { readonly name: string; readonly value: Replicas }) => {
  const here = value.replicas.some(({ ranks }) => ranks.some((rank) => rank.host === host))
  return here && value.failure !== null ? [`${name} has no other place: ${value.failure.reason}`] : []
}

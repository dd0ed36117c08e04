// The ranks that a host runs: started when told to, started again when they end by themselves, given up visibly when that
// happens too often, and gone with the scope.
import { Effect, Exit, Fiber, Scope } from "effect"
import { type Access, natsEnvironment, rankAccess } from "../bus/access.ts"
import { type Deployment, ENVIRONMENT } from "../wire/deployment.ts"
import { type HostedRank, type HostRequest, placeKey, type RankPlace } from "../wire/host.ts"
import { MachineParts } from "./machine.ts"
import type { Actor } from "./process.ts"
import { oneForOne } from "./supervision.ts"

export interface RankOrder {
  readonly place: RankPlace
  readonly deployment: Deployment
  readonly device: string
  readonly bytes: number // set aside
}

/** Where ranks connect to, and what their host shows there. */
interface RanksNats {
  readonly url: string
  readonly access: Access
}

type Stopping = Omit<Extract<HostRequest, { readonly _tag: "StopRanks" }>, "_tag">

export interface HostRanks {
  /** Starts a rank; one that runs already is left alone. */
  readonly start: (order: RankOrder) => Effect.Effect<HostedRank>
  /** Ends every rank of an activation, or those that are named, and gives how many there were. */
  readonly stop: (stopping: Stopping) => Effect.Effect<number>
  readonly all: () => ReadonlyArray<HostedRank>
}

interface Hosted {
  state: HostedRank
  fiber: Fiber.Fiber<void> | null
}

/** `changed` is called whenever a rank's state is another one. */
export const hostRanks = Effect.fnUntraced(function* (nats: RanksNats, changed: () => void) {
  const hosted = new Map<string, Hosted>()
  const scope = yield* Scope.make()
  const machine = yield* MachineParts
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))

  const supervise = (entry: Hosted, order: RankOrder) => {
    const note = (change: Partial<HostedRank>): void => {
      entry.state = { ...entry.state, ...change }
      changed()
    }
    const actor = actorOf(nats, order)
    return oneForOne({
      name: actor.name,
      start: machine.start(actor),
      running: ({ pid }) => note({ state: "running", pid }),
      restarting: ({ message }) =>
        note({ state: "restarting", pid: 0, restarts: entry.state.restarts + 1, reason: message }),
    }).pipe(Effect.map(({ message }) => note({ state: "failed", pid: 0, reason: message })))
  }

  const start = (order: RankOrder) =>
    Effect.gen(function* () {
      const key = placeKey(order.place)
      const known = hosted.get(key)
      if (known !== undefined) return known.state
      const state: HostedRank = {
        ...order.place,
        ...{ state: "running", pid: 0, restarts: 0, reason: "", bytes: order.bytes },
      }
      const entry: Hosted = { state, fiber: null }
      hosted.set(key, entry)
      entry.fiber = yield* Effect.forkIn(supervise(entry, order), scope, { startImmediately: true })
      return entry.state
    })

  const stop = Effect.fnUntraced(function* ({ deployment, epoch, ranks }: Stopping) {
    const meant = ({ group, rank }: HostedRank) =>
      ranks === undefined || ranks.some((one) => one.group === group && one.rank === rank)
    const ours = [...hosted].filter(
      ([, { state }]) => state.deployment === deployment && state.epoch === epoch && meant(state),
    )
    yield* Effect.forEach(ours, ([, { fiber }]) => (fiber === null ? Effect.void : Fiber.interrupt(fiber)), {
      concurrency: "unbounded",
      discard: true,
    })
    for (const [key, entry] of ours) if (hosted.get(key) === entry) hosted.delete(key)
    if (ours.length > 0) changed()
    return ours.length
  })

  const ranks: HostRanks = { start, stop, all: () => [...hosted.values()].map(({ state }) => state) }
  return ranks
})

const actorOf = ({ url, access }: RanksNats, { place, deployment, device }: RankOrder): Actor => ({
  name: `rank ${place.rank} of ${place.group}`,
  file: "rank.ts",
  environment: {
    ...natsEnvironment(url, rankAccess(access, deployment.name)),
    [ENVIRONMENT.deployment]: JSON.stringify(deployment),
    [ENVIRONMENT.epoch]: `${place.epoch}`,
    [ENVIRONMENT.group]: place.group,
    [ENVIRONMENT.rank]: `${place.rank}`,
    ...(place.rank < (deployment[place.group]?.ranks ?? 0) ? {} : { [ENVIRONMENT.standby]: "1" }),
    [ENVIRONMENT.device]: device,
  },
})

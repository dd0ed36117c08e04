// Placing a replica: what its ranks need, asked of the models; what the hosts have, asked of them; then the pure decision.
import { Effect, Result } from "effect"
import type { Hosts } from "../host/hosts.ts"
import { type Deployment, groupsOf } from "../wire/deployment.ts"
import type { HostBeat } from "../wire/host.ts"
import type { GivenUpRank, Replica, Standby } from "../wire/replicas.ts"
import type { ModelShelf, Opened } from "./models.ts"
import { type Offer, type Placement, place, type RankNeed } from "./placement.ts"

/** A host that does not answer in this time has no part in the placement. */
const LOOK_MILLIS = 3_000

export interface PlacementRequest {
  readonly deployment: Deployment
  readonly hosts: Hosts
  readonly shelf: ModelShelf
  readonly others: ReadonlyArray<Replica> // that there are, of all deployments
  readonly givenUp: ReadonlyArray<GivenUpRank> // of this one, lately
}

/** The ranks of a new replica. */
export const placeOn = (request: PlacementRequest): Effect.Effect<Placement> =>
  placeNeeds(request, ({ needs }) => needs)

/** A standby for one group of a replica: on a host that has none of the group's ranks, where there is one. */
export const placeStandby = (
  request: PlacementRequest,
  ranks: Replica["ranks"],
  group: Standby["group"],
): Effect.Effect<Placement> => {
  const apart = ranks.filter((one) => one.group === group).map(({ host }) => host)
  return placeNeeds(request, ({ standbys }) =>
    standbys.filter((need) => need.group === group).map((need) => ({ ...need, apart })),
  )
}

const placeNeeds = Effect.fnUntraced(function* (
  { deployment, hosts, shelf, others, givenUp }: PlacementRequest,
  wanted: (opened: Opened) => ReadonlyArray<RankNeed>,
): Effect.fn.Return<Placement> {
  const opened = yield* Effect.result(shelf.open(deployment))
  if (Result.isFailure(opened)) {
    return { _tag: "Refused", reason: `on the supervisor's machine, ${opened.failure.message}` }
  }
  const needs = wanted(opened.success)
  const models = new Map(needs.map(({ model, modelBytes }) => [model, modelBytes]))
  const ready = [...hosts.all().values()]
    .filter(({ state }) => state === "ready")
    .sort((a, b) => (a.name < b.name ? -1 : 1)) // as a refusal names them
  const offers = yield* Effect.forEach(
    ready,
    (beat) =>
      Effect.map(looked(hosts, beat.name, models), (lacks) => ({
        ...offerOf(beat, lacks, threadsOn(beat.name, others)),
        givenUp: givenUp.filter(({ host }) => host === beat.name),
      })),
    { concurrency: "unbounded" },
  )
  return place(needs, offers)
})

/** The models that a host lacks, and why. */
const looked = (hosts: Hosts, host: string, models: ReadonlyMap<string, number>) =>
  hosts.ask(host, { _tag: "Look", models: [...models.keys()] }).pipe(
    Effect.timeout(LOOK_MILLIS),
    Effect.map((answer) => {
      const lacks = new Map<string, string>()
      for (const { path, bytes, error } of answer._tag === "Looked" ? answer.models : []) {
        const expected = models.get(path)
        if (error !== "") lacks.set(path, error)
        else if (bytes !== expected) lacks.set(path, `its ${path} has ${bytes} bytes, the supervisor's ${expected}`)
      }
      return lacks
    }),
    Effect.catch(({ message }) => Effect.succeed(new Map([...models.keys()].map((path) => [path, message])))),
  )

const offerOf = (beat: HostBeat, lacks: ReadonlyMap<string, string>, threads: number): Omit<Offer, "givenUp"> => {
  const { name, cores, memoryFree, devices, hopMillis } = beat
  return { name, cores, threads, memoryFree, devices, hopMillis, lacks }
}

/** Of a replica's groups, which take turns, the one with the most. */
const threadsOn = (host: string, replicas: ReadonlyArray<Replica>): number =>
  replicas.reduce((sum, { deployment, ranks }) => {
    const here = ranks.filter((rank) => rank.host === host)
    const byGroup = groupsOf(deployment).map(
      ({ name, threads }) => here.filter(({ group }) => group === name).length * threads,
    )
    return sum + Math.max(0, ...byGroup)
  }, 0)

// Which replicas are healthy: those through which a pass ran. The controller sends one when the ranks of a replica say that they
// are ready, and again when nothing has computed there for a while, be it for want of sessions or because a device hangs.
// Where sessions run, their passes are proof enough, so health costs them no message.
import { Effect, FiberMap } from "effect"
import { join } from "../group/group.ts"
import { healthPass } from "../group/healthPass.ts"
import { groupsOf } from "../wire/deployment.ts"
import type { Replica } from "../wire/replicas.ts"
import type { Observations } from "./observations.ts"

/** Nothing has computed for so long. */
const QUIET_MILLIS = 10_000

/** What is known of a replica; "unproved" until the first pass has run. */
export type Probe = "unproved" | "healthy" | { readonly failed: string }

export interface Probes {
  readonly of: (replica: Replica) => Probe
  /** Sends passes where they are due. What is not among these replicas is forgotten. */
  readonly renew: (replicas: ReadonlyArray<Replica>) => Effect.Effect<void>
}

interface Known {
  readonly probe: Probe
  readonly computed: number // milliseconds, of all its ranks together
  readonly at: number // since then they have computed nothing, by a clock that cannot be set
}

/** `changed` is called when a proof is another one. */
export const probes = Effect.fnUntraced(function* (observed: Observations, changed: () => void) {
  const known = new Map<string, Known>()
  const proving = yield* FiberMap.make<string, void>()
  const fork = yield* FiberMap.runtime(proving)<Effect.Services<ReturnType<typeof pass>>>()

  const note = (replica: Replica, probe: Probe): void => {
    known.set(keyOf(replica), { probe, computed: computedBy(replica, observed) ?? 0, at: performance.now() })
    changed()
  }
  const prove = (replica: Replica) =>
    pass(replica).pipe(
      Effect.matchEffect({
        onSuccess: () => Effect.sync(() => note(replica, "healthy")),
        onFailure: (error) =>
          Effect.sync(() => {
            const ended = error._tag === "GroupSilent" || computedBy(replica, observed) === null // as its host says
            if (!ended) note(replica, { failed: error.message })
          }),
      }),
    )

  const renew = (replicas: ReadonlyArray<Replica>) =>
    Effect.gen(function* () {
      const keys = new Set(replicas.map(keyOf))
      for (const key of known.keys()) if (!keys.has(key)) known.delete(key)
      for (const replica of replicas) {
        const computed = computedBy(replica, observed)
        if (computed === null || (yield* FiberMap.has(proving, keyOf(replica)))) continue
        const last = known.get(keyOf(replica))
        if (last === undefined) fork(keyOf(replica), prove(replica))
        else if (computed !== last.computed) known.set(keyOf(replica), { ...last, computed, at: performance.now() })
        else if (performance.now() - last.at > QUIET_MILLIS) fork(keyOf(replica), prove(replica))
      }
    })

  const service: Probes = { of: (replica) => known.get(keyOf(replica))?.probe ?? "unproved", renew }
  return service
})

/** One token through each of its groups. */
const pass = ({ deployment, formed }: Replica) =>
  Effect.scoped(
    Effect.forEach(
      groupsOf(deployment),
      (group) => Effect.flatMap(join({ deployment: deployment.name, group, epoch: formed }), healthPass),
      { concurrency: "unbounded", discard: true },
    ),
  )

const keyOf = ({ deployment, formed }: Replica): string => `${deployment.name} ${formed}`

/** Null while not all of its ranks say that they are ready. */
const computedBy = ({ deployment, formed, ranks }: Replica, observed: Observations): number | null => {
  let sum = 0
  for (const { group, rank } of ranks) {
    const beat = observed.rank({ deployment: deployment.name, epoch: formed, group, rank })
    if (beat === null || beat === "silent" || beat.state !== "ready") return null
    sum += beat.computeMillis
  }
  return sum
}

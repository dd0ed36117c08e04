// The replicas of a deployment: what the bucket `chorus_replicas` holds under its name, as JSON. The controller alone writes it,
// by revision; supervisors follow it. And what the controller hears from them: the demand.
import { Schema } from "effect"
import { Deployment, GroupName } from "./deployment.ts"
import { Count } from "./scalar.ts"

const process = {
  group: GroupName,
  member: Count, // its number among the processes of its group, by which its host knows it; a rank's own until a standby takes its place
  host: Schema.String,
  device: Schema.String,
  bytes: Count, // set aside on the host
}
const PlacedRank = Schema.Struct({ ...process, rank: Count })
const PlacedStandby = Schema.Struct(process)

export type PlacedRank = typeof PlacedRank.Type
export type Standby = typeof PlacedStandby.Type

/** A rank that ended too often where it was. */
const GivenUpRank = Schema.Struct({
  ...{ host: Schema.String, group: PlacedRank.fields.group, rank: Count },
  reason: Schema.String, // how it ended last
  at: Schema.Finite, // milliseconds since 1970 on the controller's clock
})
export type GivenUpRank = typeof GivenUpRank.Type

/** draining: it gets no new sessions, and stops when those that it has are over. */
export const Replica = Schema.Struct({
  epoch: Count, // of the activation, by which hosts know its processes
  formed: Count, // the epoch of its groups: the same until a standby takes a rank's place, which forms them anew
  state: Schema.Literals(["activating", "ready", "draining"]),
  since: Schema.Finite, // of the state, or of the place that was taken last, milliseconds since 1970 on the controller's clock
  deployment: Deployment, // that its ranks run: a change of the deployment needs another replica
  ranks: Schema.Array(PlacedRank),
  standbys: Schema.Array(PlacedStandby), // one of a group at most
})
export type Replica = typeof Replica.Type

export const Replicas = Schema.Struct({
  epoch: Count, // the highest that was given; it rises with every activation and is kept while the deployment is cold
  replicas: Schema.Array(Replica),
  givenUp: Schema.optionalKey(Schema.Array(GivenUpRank)), // by hosts, lately: they are placed elsewhere
  failure: Schema.NullOr(
    Schema.Struct({
      kind: Schema.Literals(["placement", "start"]), // no host would do; or the ranks could not start, or ended
      reason: Schema.String,
      count: Count, // one after the other
      at: Schema.Finite,
    }),
  ), // of the last activation; null when it came to be ready
})
export type Replicas = typeof Replicas.Type

export const COLD: Replicas = { epoch: 0, replicas: [], failure: null }

export const DEMAND_MILLIS = 500

/** What one supervisor has of a deployment, or of what it was before a change. Told when it changes, and again while it is not nothing. */
export const Demand = Schema.TaggedStruct("Demand", {
  source: Schema.String, // the sender: the newest message of each counts
  deployment: Schema.String,
  waiting: Count, // for a replica to be ready
  running: Schema.Array(Schema.Struct({ epoch: Count, sessions: Count })),
})
export type Demand = typeof Demand.Type

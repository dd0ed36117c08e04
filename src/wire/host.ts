// A machine's host: what it says of itself in its beats, and what it is asked to do. A request has one answer, which says
// what became of it.
import { Schema } from "effect"
import { Deployment, GroupName } from "./deployment.ts"
import { Count } from "./scalar.ts"

export const HOST_BEAT_MILLIS = 500

/** A host that misses this many beats is gone, and its ranks with it. */
export const HOST_BEATS_MISSED = 4

/** Which rank of which activation; a standby has a number behind its group's ranks. */
const place = {
  deployment: Schema.String,
  epoch: Count,
  group: GroupName,
  rank: Count,
}
export const RankPlace = Schema.Struct(place)
export type RankPlace = typeof RankPlace.Type

export const placeKey = ({ deployment, epoch, group, rank }: RankPlace): string =>
  `${deployment}.${epoch}.${group}.${rank}`

/** restarting: it ended by itself and is started again in a moment; failed: too often, and not any more. */
export const HostedRank = Schema.Struct({
  ...place,
  state: Schema.Literals(["running", "restarting", "failed"]),
  pid: Count, // 0 where it does not run
  restarts: Count,
  reason: Schema.String, // how it ended last; empty where it never did
  bytes: Count, // set aside for it
})
export type HostedRank = typeof HostedRank.Type

export const HostDevice = Schema.Struct({
  name: Schema.String,
  kind: Schema.Literals(["cpu", "gpu"]),
  description: Schema.String,
  memoryFree: Schema.Finite, // bytes
  memoryTotal: Schema.Finite,
})
export type HostDevice = typeof HostDevice.Type

export const HostBeat = Schema.TaggedStruct("HostBeat", {
  name: Schema.String,
  pid: Schema.Int,
  state: Schema.Literals(["ready", "draining", "left"]), // draining: it takes no ranks, and those that it has go; left: its last word
  drainMillis: Count, // while it drains: how long sessions may go on here before they do so elsewhere
  cores: Schema.Int, // that it may use
  memoryFree: Schema.Finite, // bytes, of the limit that it was given and of what the machine has
  memoryTotal: Schema.Finite,
  devices: Schema.Array(HostDevice),
  hopMillis: Schema.Finite, // to the NATS server and back, measured
  ranks: Schema.Array(HostedRank),
})
export type HostBeat = typeof HostBeat.Type

/** What the bucket `chorus_drains` holds under the name of a host that is to drain, as JSON: the host follows it. */
export const Drain = Schema.Struct({ limitMillis: Count })
export type Drain = typeof Drain.Type

/** What is there of each model: paths are the host's own. */
const Look = Schema.TaggedStruct("Look", { models: Schema.Array(Schema.String) })
/** Starts ranks. One that runs already is left alone, so the request may be repeated. */
const StartRanks = Schema.TaggedStruct("StartRanks", {
  deployment: Deployment,
  epoch: Count,
  ranks: Schema.Array(Schema.Struct({ group: place.group, rank: place.rank, device: Schema.String, bytes: Count })),
})
/** Ends every rank of an activation, or those that are named; answered when they have ended. */
const StopRanks = Schema.TaggedStruct("StopRanks", {
  deployment: Schema.String,
  epoch: Count,
  ranks: Schema.optionalKey(Schema.Array(Schema.Struct({ group: place.group, rank: place.rank }))),
})

export const HostRequest = Schema.Union([Look, StartRanks, StopRanks]).pipe(Schema.toTaggedUnion("_tag"))
export type HostRequest = typeof HostRequest.Type

export const LookedAt = Schema.Struct({
  path: Schema.String,
  bytes: Schema.Finite, // of the weight files; 0 where there are none
  error: Schema.String, // why it cannot be used; empty where it can
})
export type LookedAt = typeof LookedAt.Type

export const HostAnswer = Schema.Union([
  Schema.TaggedStruct("Looked", { models: Schema.Array(LookedAt) }),
  Schema.TaggedStruct("Started", { ranks: Schema.Array(HostedRank) }),
  Schema.TaggedStruct("Stopped", { ranks: Count }),
  Schema.TaggedStruct("HostRefused", { reason: Schema.String }),
]).pipe(Schema.toTaggedUnion("_tag"))
export type HostAnswer = typeof HostAnswer.Type

// Heartbeats: every rank says four times a second that it is there, and what it is doing; every supervisor once a second.
import { Schema } from "effect"

export const BEAT_MILLIS = 250

export const RankBeat = Schema.TaggedStruct("RankBeat", {
  group: Schema.String,
  rank: Schema.Int, // of a standby: a number behind the ranks'
  ranks: Schema.Int,
  epoch: Schema.Int,
  state: Schema.Literals(["loading", "standby", "ready", "draining", "failed"]),
  progress: Schema.Finite, // of loading, 0 to 1
  reason: Schema.String, // of "failed"; empty otherwise
  pid: Schema.Int,
  strategy: Schema.String,
  model: Schema.String,
  shard: Schema.String, // "attention 0-3,8; mlp 0-9; embed; head"
  device: Schema.String, // "CPU (zen4)"
  bytesOfWeights: Schema.Int,
  bytesOfKv: Schema.Int,
  kvTokens: Schema.Int, // for which it has memory; 0 while it is not ready
  sessions: Schema.Int,
  kvMessages: Schema.Int, // of committed KV, sent to a standby so far: a counter
  kvBytes: Schema.Int, // a counter
  computeMillis: Schema.Finite, // of its device so far, a counter: two beats give its load
  connections: Schema.Int, // to NATS, so far: what was on its way to the rank when this rises is lost
})
export type RankBeat = typeof RankBeat.Type

export const SUPERVISOR_BEAT_MILLIS = 1_000

/** What a supervisor has to do for one deployment. Counters begin with the process. */
export const SupervisorBeat = Schema.TaggedStruct("SupervisorBeat", {
  id: Schema.String,
  deployment: Schema.String,
  pid: Schema.Int,
  state: Schema.Literals(["ready", "draining"]),
  serving: Schema.Boolean, // whether ranks are there for its sessions: a pass ran through them
  sessions: Schema.Int, // that run
  waiting: Schema.Int, // for memory
  tokens: Schema.Int, // generated so far: a counter
  accepted: Schema.Int, // drafted tokens that the base chose too: a counter
  drafted: Schema.Int, // a counter
  iterations: Schema.Int, // a counter
  kvTokensReserved: Schema.Int, // for the sessions that run
  kvTokensKept: Schema.Int, // of ended sessions, for sessions that go on from them
  kvTokensTotal: Schema.Int,
  requests: Schema.Int, // all of them: a counter
  refused: Schema.Int, // a counter
  storage: Schema.optionalKey(Schema.String), // which storage refuses to write, and why; left out where none does
})
export type SupervisorBeat = typeof SupervisorBeat.Type

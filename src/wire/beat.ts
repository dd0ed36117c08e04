// Heartbeats: every rank says four times a second that it is there, and what it is doing.
import { Schema } from "effect"

export const BEAT_MILLIS = 250

export const RankBeat = Schema.TaggedStruct("RankBeat", {
  group: Schema.String,
  rank: Schema.Int,
  ranks: Schema.Int,
  epoch: Schema.Int,
  state: Schema.Literals(["loading", "ready", "draining", "failed"]),
  progress: Schema.Finite, // of loading, 0 to 1
  reason: Schema.String, // of "failed"; empty otherwise
  pid: Schema.Int,
  strategy: Schema.String,
  model: Schema.String,
  shard: Schema.String, // "attention 0-3,8; mlp 0-9; embed; head"
  device: Schema.String, // "CPU (zen4)"
  bytesOfWeights: Schema.Int,
  bytesOfKv: Schema.Int,
  sessions: Schema.Int,
  computeMillis: Schema.Finite, // of its device so far, a counter: two beats give its load
})
export type RankBeat = typeof RankBeat.Type

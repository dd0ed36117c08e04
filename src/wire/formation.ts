// Which process is which rank of a replica's groups. The controller tells it when a standby has taken a rank's place, after it has written
// it down, and again until every process has understood. The groups go on in another epoch then: a rank that was given
// up and wakes up speaks under the old epoch, where no process listens.
import { Schema } from "effect"
import { Count } from "./scalar.ts"

export const Formation = Schema.TaggedStruct("Formation", {
  epoch: Count, // of the groups from now on; an older one than a process is in is of no account
  base: Schema.Array(Count), // the number of the process that is rank i
  draft: Schema.Array(Count),
  prefill: Schema.Array(Count),
})
export type Formation = typeof Formation.Type

// What supervisors tell one another of the KV that ended sessions have left on the ranks of a replica. A supervisor that
// misses it fills in a prompt that it could have had; one that believes it for too long is told `UnknownSession` by the ranks.
import { Schema } from "effect"
import { Count } from "./scalar.ts"

const where = {
  source: Schema.String, // the supervisor that keeps it
  epoch: Count, // of the replica's activation
}

export const PrefixGossip = Schema.Union([
  Schema.TaggedStruct("Kept", {
    ...where,
    session: Schema.String,
    kv: Schema.String, // its name on the ranks
    tokens: Schema.Array(Count),
    base: Count, // exact KV in the base group: of this many of the tokens
    draft: Count,
  }),
  Schema.TaggedStruct("Freed", { ...where, session: Schema.String }),
]).pipe(Schema.toTaggedUnion("_tag"))
export type PrefixGossip = typeof PrefixGossip.Type

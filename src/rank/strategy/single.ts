// `single`: one rank holds the whole model. No hops; a pass is one native call.
import { Effect } from "effect"
import { fuzzy } from "../../speculation/schedule.ts"
import { layersOwnedBy } from "./shards.ts"
import { groupOps, once, type Strategy } from "./strategy.ts"

export const single: Strategy = {
  owners: (layers) => Array.from({ length: layers }, () => 0),
  shards: (layers) => {
    const all = layersOwnedBy(0, single.owners(layers, 1, 1))
    return [{ attention: all, mlp: all, embed: true, head: true }]
  },
  batches: "ranks",
  leader: () => 0,

  exact: (context, rows, head) =>
    once(context, rows, [
      { op: "embed" },
      { op: "layers", from: 0, to: context.layout.layers },
      ...(head === null ? [] : [head]),
    ]),

  // The schedule's mathematics without its parallelism: what EasySpec does to the draft can be studied on one rank.
  lead: (context, rows, n, head) =>
    once(context, rows, [{ op: "embed" }, ...fuzzy(context.layout.layers, n).flatMap(groupOps), head]),

  follow: () => Effect.succeed(false),
  end: () => Effect.void,
}

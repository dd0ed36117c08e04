// The strategies by their names, and what each rank of a group holds. Worked out from the deployment alone, so that ranks,
// memory checks and `chorus ps` agree without asking each other.
import type { Shape, Shard } from "../../../native/index.ts"
import type { GroupName, Strategy as StrategyName } from "../../wire/deployment.ts"
import { layer } from "./layer.ts"
import { pipeline } from "./pipeline.ts"
import { single } from "./single.ts"
import type { Strategy } from "./strategy.ts"

export const STRATEGIES: Readonly<Record<StrategyName, Strategy>> = { single, pipeline, layer }

/** Of a group of which nothing is said: a draft's layers go to work at once, a base's one after the other. */
export const defaultStrategy = (group: GroupName, ranks: number): StrategyName =>
  ranks === 1 ? "single" : group === "draft" ? "layer" : "pipeline"

/** The parts of a group that its shards depend on. */
export interface Split {
  readonly strategy: StrategyName
  readonly ranks: number
}

/** The rank that holds each layer's attention. `n` is the deployment's fuzzy group size, by which `layer` deals them. */
export const ownersOf = ({ strategy, ranks }: Split, layers: number, n: number): ReadonlyArray<number> =>
  STRATEGIES[strategy].owners(layers, ranks, n)

/** The shards of a group's ranks, in their order. */
export const shardsOf = (
  { strategy, ranks }: Split,
  { layers }: Pick<Shape, "layers">,
  n: number,
): ReadonlyArray<Shard> => STRATEGIES[strategy].shards(layers, ranks, n)

export const shardOf = (split: Split, shape: Pick<Shape, "layers">, n: number, rank: number): Shard => {
  const shard = shardsOf(split, shape, n)[rank]
  if (shard === undefined) throw new RangeError(`rank ${rank} of a group of ${split.ranks}`)
  return shard
}

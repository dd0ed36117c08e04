// Which part of a model each rank of a group holds. Worked out from the deployment alone, so that ranks, memory checks and
// `chorus ps` agree without asking each other.
import type { Shape, Shard } from "../../../native/index.ts"
import { fuzzy, owners } from "../../speculation/schedule.ts"
import type { Strategy } from "../../wire/deployment.ts"

/** The parts of a group that its shards depend on. */
export interface Split {
  readonly strategy: Strategy
  readonly ranks: number
}

/** The rank that holds each layer's attention. `n` is the deployment's fuzzy group size, by which `layer` deals them. */
export const ownersOf = ({ strategy, ranks }: Split, layers: number, n: number): ReadonlyArray<number> => {
  switch (strategy) {
    case "single":
      return Array.from({ length: layers }, () => 0)
    case "pipeline":
      return Array.from({ length: layers }, (_, layer) => Math.floor(((layer + 1) * ranks - 1) / layers))
    case "layer":
      return owners(fuzzy(layers, n), ranks)
  }
}

/** The shards of a group's ranks, in their order. */
export const shardsOf = (split: Split, { layers }: Pick<Shape, "layers">, n: number): ReadonlyArray<Shard> => {
  const owners = ownersOf(split, layers, n)
  const all = Array.from({ length: layers }, (_, layer) => layer)
  return Array.from({ length: split.ranks }, (_, rank) => {
    const attention = all.filter((layer) => owners[layer] === rank)
    const ends = rank === (split.strategy === "pipeline" ? split.ranks - 1 : 0)
    const mlp = split.strategy !== "layer" || rank === 0 ? attention : all.slice(1, -1)
    return {
      attention,
      mlp: split.strategy === "layer" && rank === 0 ? all : mlp,
      embed: rank === 0,
      head: ends,
    }
  })
}

export const shardOf = (split: Split, shape: Pick<Shape, "layers">, n: number, rank: number): Shard => {
  const shard = shardsOf(split, shape, n)[rank]
  if (shard === undefined) throw new RangeError(`rank ${rank} of a group of ${split.ranks}`)
  return shard
}

/** A shard in words: "attention 0-3,8; mlp 0-9; embed; head". */
export const describeShard = ({ attention, mlp, embed, head }: Shard): string =>
  [`attention ${ranges(attention)}`, `mlp ${ranges(mlp)}`, ...(embed ? ["embed"] : []), ...(head ? ["head"] : [])].join(
    "; ",
  )

const ranges = (layers: ReadonlyArray<number>): string =>
  rangesOf(layers)
    .map(({ from, to }) => (from + 1 === to ? `${from}` : `${from}-${to - 1}`))
    .join(",") || "none"

/** Layers that follow one another, from the first to the one after the last. */
export const rangesOf = (
  layers: ReadonlyArray<number>,
): ReadonlyArray<{ readonly from: number; readonly to: number }> => {
  const starts = layers.filter((layer, i) => layer !== (layers[i - 1] ?? -2) + 1)
  const ends = layers.filter((layer, i) => layer !== (layers[i + 1] ?? -2) - 1)
  return starts.map((from, i) => ({ from, to: (ends[i] ?? from) + 1 }))
}

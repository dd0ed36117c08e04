// Shards in general: which layers they consist of, and how people read them. What each rank holds is the strategies' affair.
import type { Shard } from "../../../native/index.ts"

/** The layers whose attention `rank` holds, in order. */
export const layersOwnedBy = (rank: number, owners: ReadonlyArray<number>): ReadonlyArray<number> =>
  owners.flatMap((owner, layer) => (owner === rank ? [layer] : []))

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

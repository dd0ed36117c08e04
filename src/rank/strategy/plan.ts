// Which rank sends what to which in `layer`, worked out from the owners of the layers alone, so that every rank comes to the same
// plan without a message.
import { type Hop, hopOf } from "../../speculation/indices.ts"
import { fuzzy } from "../../speculation/schedule.ts"

export const LEADER = 0

/** Consecutive layers [from, to) of one rank. */
export interface Run {
  readonly owner: number
  readonly from: number
  readonly to: number
}

/** An exact pass: h is handed from one run to the next. */
export const runsOf = (owners: ReadonlyArray<number>): ReadonlyArray<Run> => {
  const starts = owners.flatMap((owner, layer) => (owner === owners[layer - 1] ? [] : [layer]))
  return starts.map((from, i) => ({ owner: owners[from] ?? LEADER, from, to: starts[i + 1] ?? owners.length }))
}

/** A fuzzy group's all-gather. */
export interface Gather {
  readonly layers: ReadonlyArray<number>
  readonly owners: ReadonlyArray<number> // of each of the layers
  readonly listeners: ReadonlyArray<number> // the leader, and the owners of a later group's attention: they need all A's
  readonly hop: Hop | null // counted from 1, the broadcast of h; null where no rank has to send
}

/** A fuzzy pass: the groups between the first and the last layer. */
export const gathersOf = (
  { owners, layers: count }: { readonly owners: ReadonlyArray<number>; readonly layers: number },
  n: number,
): ReadonlyArray<Gather> => {
  const ranksOf = (layers: ReadonlyArray<number>) => layers.map((layer) => owners[layer] ?? LEADER)
  const groups = fuzzy(count, n).slice(1, -1)
  let hop = 1
  return groups.map((layers, i) => {
    const listeners = [...new Set([LEADER, ...groups.slice(i + 1).flatMap(ranksOf)])].sort((a, b) => a - b)
    const of = ranksOf(layers)
    const needed = of.some((owner) => listeners.some((listener) => listener !== owner))
    if (needed) hop += 1
    return { layers, owners: of, listeners, hop: needed ? hopOf(hop) : null }
  })
}

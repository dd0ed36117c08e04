// EasySpec's schedule (arXiv 2502.02493, section 3.1) and the placement of attention layers on ranks that goes with it.

/** Which layers' attentions run at once, in the order of the layers. Groups of one layer are exact. */
export type Schedule = ReadonlyArray<ReadonlyArray<number>>

export const exact = (layers: number): Schedule => Array.from({ length: layers }, (_, layer) => [layer])

/** Layer parallelism in groups of n, 2 layers or more: fuzzy(8, 4) = [[0], [1, 2, 3, 4], [5, 6], [7]]. n = 1 is exact. */
export const fuzzy = (layers: number, n: number): Schedule => {
  if (layers < 2) return exact(layers)
  const between = exact(layers).flat().slice(1, -1) // the first and the last layer run alone, as in the paper
  const groups = Array.from({ length: Math.ceil(between.length / n) }, (_, g) => between.slice(g * n, (g + 1) * n))
  return [[0], ...groups, [layers - 1]]
}

/**
 * The rank that holds each layer's attention. Rank 0 leads: it embeds and has the head, so the first and the last layer are
 * its own and cost no hop. A group is dealt in contiguous blocks, as even as can be, and in zigzag from group to group
 * (0 0 1 1, 1 1 0 0, ...), so that an exact pass changes ranks about `ranks - 1` times a group. Where the blocks of a group
 * are uneven, the ranks that hold the fewest layers so far get the longer ones.
 */
export const owners = (schedule: Schedule, ranks: number): ReadonlyArray<number> => {
  const held = new Array<number>(ranks).fill(0)
  const dealt: Array<number> = []
  for (const [g, group] of schedule.entries()) {
    const alone = group.length === 1 && (g === 0 || g === schedule.length - 1)
    const blocks = alone ? [{ rank: 0, size: 1 }] : blocksOf(group.length, held, dealt.at(-1) ?? 0)
    for (const { rank, size } of blocks) {
      held[rank] = (held[rank] ?? 0) + size
      dealt.push(...new Array<number>(size).fill(rank))
    }
  }
  return dealt
}

/** How a group's layers fall to the ranks: which take part, how many each gets, and from which end the deal begins. */
const blocksOf = (size: number, held: ReadonlyArray<number>, last: number) => {
  const byLoad = held.map((load, rank) => ({ rank, load })).sort((a, b) => a.load - b.load || a.rank - b.rank)
  const taking = byLoad.slice(0, Math.min(size, held.length)) // fewer layers than ranks: those that hold the fewest
  const longer = size % taking.length
  const blocks = taking
    .map(({ rank }, i) => ({ rank, size: Math.floor(size / taking.length) + (i < longer ? 1 : 0) }))
    .sort((a, b) => a.rank - b.rank)
  const at = blocks.findIndex(({ rank }) => rank === last)
  // Begin with the rank that had the layer before, where it takes part: that boundary is then no hop.
  if (at === -1) return blocks
  const [first] = blocks.splice(at, 1)
  return first === undefined ? blocks : [first, ...(last === 0 ? blocks : blocks.reverse())]
}

/** Hops of an exact pass: h is handed on wherever the owner changes. */
export const hopsExact = (owners: ReadonlyArray<number>): number =>
  owners.filter((owner, layer) => layer > 0 && owner !== owners[layer - 1]).length

/** Hops of a fuzzy pass: the broadcast of h after layer 0, then an all-gather for each group that has layers elsewhere than on the leader. */
export const hopsFuzzy = (schedule: Schedule, owners: ReadonlyArray<number>): number => {
  const elsewhere = schedule.filter((group) => group.some((layer) => owners[layer] !== 0)).length
  return elsewhere === 0 ? 0 : 1 + elsewhere
}

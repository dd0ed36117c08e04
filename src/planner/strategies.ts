// What the ranks of a group do in one pass, by strategy: EasySpec's schedule and the deal of layers are the product's own
// (speculation/schedule.ts, rank/strategy), so what is priced here is what runs. `split` is the paper's way: every
// attention on one rank, every MLP and the head over all of them.
import { layer } from "../rank/strategy/layer.ts"
import { gathersOf, LEADER, runsOf } from "../rank/strategy/plan.ts"
import { layersOwnedBy } from "../rank/strategy/shards.ts"
import type { Blocks } from "./blocks.ts"
import type { Hardware } from "./hardware.ts"
import type { ModelShape } from "./models.ts"
import { Recorder } from "./recorder.ts"
import type { Step } from "./simulate.ts"

/** How a group divides a model. */
export type Division =
  | { readonly strategy: "single" }
  | { readonly strategy: "pipeline"; readonly ranks: number }
  | { readonly strategy: "tensor"; readonly ranks: number }
  | { readonly strategy: "layer"; readonly ranks: number; readonly n: number; readonly split: boolean }

export interface Pass {
  readonly model: ModelShape
  readonly hardware: Hardware
  readonly blocks: Blocks
  readonly rows: number
  readonly context: number // positions that a row sees
  readonly exact: boolean // layers in order, on ranks that may be dealt for a fuzzy pass
}

type Program = ReadonlyArray<ReadonlyArray<Step>>

const CANDIDATE_BYTES = 16 * 8 // of a row: the best of a slice of the vocabulary, with their log-probabilities

export const ranksOf = (division: Division): number => (division.strategy === "single" ? 1 : division.ranks)

export const programOf = (division: Division, pass: Pass): Program => {
  const group = new Group(pass, ranksOf(division))
  if (division.strategy === "single") return single(group)
  if (division.strategy === "pipeline") return pipeline(group)
  if (division.strategy === "tensor") return tensor(group)
  const { layers } = pass.model
  const owners = layer.owners(layers, division.ranks, division.n)
  const exact = pass.exact || division.n === 1
  if (division.split) return exact ? exactSplit(group, owners) : fuzzySplit(group, owners, division.n)
  return exact ? handOver(group, owners) : fuzzy(group, owners, division.n)
}

/** The blocks of a pass, recorded for the ranks of a group. */
class Group {
  readonly recorder: Recorder
  readonly all: ReadonlyArray<number>
  readonly layers: number
  readonly hiddenBytes: number
  readonly #pass: Pass

  constructor(pass: Pass, ranks: number) {
    this.#pass = pass
    this.layers = pass.model.layers
    this.hiddenBytes = pass.rows * pass.model.width * pass.hardware.activationBytes
    this.recorder = new Recorder(pass.hardware, ranks, pass.blocks.stretch)
    this.all = Array.from({ length: ranks }, (_, rank) => rank)
  }

  embed(ranks: ReadonlyArray<number>): void {
    this.recorder.compute(ranks, this.#pass.blocks.embed(this.#pass.rows))
  }

  attention(ranks: ReadonlyArray<number>, count = 1, parts = 1): void {
    this.recorder.compute(ranks, count * this.#pass.blocks.attention(this.#pass.rows, this.#pass.context, parts))
  }

  mlp(ranks: ReadonlyArray<number>, count = 1, parts = 1): void {
    this.recorder.compute(ranks, count * this.#pass.blocks.mlp(this.#pass.rows, parts))
  }

  head(ranks: ReadonlyArray<number>, parts = 1): void {
    this.recorder.compute(ranks, this.#pass.blocks.head(this.#pass.rows, parts))
  }

  hand(from: number, to: ReadonlyArray<number>): void {
    this.recorder.hand(from, to, this.hiddenBytes)
  }

  /** Every rank computes its part, and all get the sum. */
  shared(what: (ranks: ReadonlyArray<number>, count: number, parts: number) => void): void {
    what.call(this, this.all, 1, this.all.length)
    this.recorder.reduce(this.all, this.hiddenBytes)
  }

  /** Each rank has a slice of the vocabulary; all get the best of every slice, so all grow the same tree. */
  sharedHead(): void {
    this.head(this.all, this.all.length)
    const bytes = this.#pass.rows * CANDIDATE_BYTES
    if (this.all.length > 1) this.recorder.gather(new Map(this.all.map((rank) => [rank, bytes])), this.all)
  }
}

const single = (group: Group): Program => {
  const leader = [LEADER]
  group.embed(leader)
  group.attention(leader, group.layers)
  group.mlp(leader, group.layers)
  group.head(leader)
  return group.recorder.finish()
}

/** Blocks of consecutive layers; the last rank has the head, and hands the choice back to the first. */
const pipeline = (group: Group): Program => {
  const { layers, all } = group
  const last = all.length - 1
  group.embed([LEADER])
  for (const rank of all) {
    const [from, to] = [Math.floor((rank * layers) / all.length), Math.floor(((rank + 1) * layers) / all.length)]
    if (rank > 0) group.hand(rank - 1, [rank])
    group.attention([rank], to - from)
    group.mlp([rank], to - from)
  }
  group.head([last])
  if (last > 0) group.recorder.hand(last, [LEADER], CANDIDATE_BYTES)
  return group.recorder.finish()
}

/** Column- and row-split matrices: two sums a layer, and the head. */
const tensor = (group: Group): Program => {
  group.embed(group.all)
  for (let layer = 0; layer < group.layers; layer++) {
    group.shared(group.attention)
    group.shared(group.mlp)
  }
  group.sharedHead()
  return group.recorder.finish()
}

/** `layer`, exact: each owner runs its consecutive layers and hands h on. */
const handOver = (group: Group, owners: ReadonlyArray<number>): Program => {
  const runs = runsOf(owners)
  group.embed([LEADER])
  for (const [i, { owner, from, to }] of runs.entries()) {
    const before = runs[i - 1]
    if (before !== undefined) group.hand(before.owner, [owner])
    group.attention([owner], to - from)
    group.mlp([owner], to - from)
  }
  group.head([LEADER])
  return group.recorder.finish()
}

/** `layer`, fuzzy, MLPs on every rank: a broadcast of h after layer 0, then an all-gather a group. */
const fuzzy = (group: Group, owners: ReadonlyArray<number>, n: number): Program => {
  const { layers, all } = group
  const followers = all.filter((rank) => rank !== LEADER)
  group.embed([LEADER])
  group.attention([LEADER])
  group.mlp([LEADER])
  if (followers.length > 0) group.hand(LEADER, followers)
  for (const { layers: of, owners: holders, listeners, hop } of gathersOf({ owners, layers }, n)) {
    attend(group, holders)
    if (hop !== null) group.recorder.gather(attendedBytes(group, holders), listeners)
    group.mlp(listeners, of.length)
  }
  group.attention([LEADER])
  group.mlp([LEADER])
  group.head([LEADER])
  return group.recorder.finish()
}

/**
 * `layer`, fuzzy, the paper's way: an all-gather a group, a sum for each MLP. The attentions of the first and the last
 * layer run on every rank, so nobody waits for them: L + G + 1 hops where tensor parallelism has 2 L + 1.
 */
const fuzzySplit = (group: Group, owners: ReadonlyArray<number>, n: number): Program => {
  const { layers, all } = group
  const alone = () => {
    group.attention(all)
    group.shared(group.mlp)
  }
  group.embed(all)
  alone()
  for (const { layers: of, owners: holders } of gathersOf({ owners, layers }, n)) {
    attend(group, holders)
    group.recorder.share(attendedBytes(group, holders), all)
    for (const _ of of) group.shared(group.mlp)
  }
  alone()
  group.sharedHead()
  return group.recorder.finish()
}

/** The same shards in order: each attention is one rank's, and every MLP needs it on all of them. */
const exactSplit = (group: Group, owners: ReadonlyArray<number>): Program => {
  const { layers, all } = group
  group.embed(all)
  for (const [layer, owner] of owners.entries()) {
    const alone = layer === 0 || layer === layers - 1
    group.attention(alone ? all : [owner])
    if (!alone) group.recorder.share(new Map([[owner, group.hiddenBytes]]), all)
    group.shared(group.mlp)
  }
  group.sharedHead()
  return group.recorder.finish()
}

/** The attentions of a fuzzy group, on their owners at the same time. */
const attend = (group: Group, owners: ReadonlyArray<number>): void => {
  for (const rank of new Set(owners)) group.attention([rank], layersOwnedBy(rank, owners).length)
}

const attendedBytes = (group: Group, owners: ReadonlyArray<number>): ReadonlyMap<number, number> =>
  new Map([...new Set(owners)].map((rank) => [rank, group.hiddenBytes * layersOwnedBy(rank, owners).length]))

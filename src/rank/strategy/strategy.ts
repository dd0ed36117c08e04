// What the strategies have in common: each is a way to run a pass over the ranks of a group. They differ in which rank
// holds which layers, and so in what is sent.
import { Effect } from "effect"
import type { Op, Segment, Shard, StretchResult } from "../../../native/index.ts"
import type { Exchange, ExchangeError, Payload } from "../../group/exchange.ts"
import { NO_NODES } from "../../group/exchange.ts"
import type { Batch, Compute, ComputeFailed } from "../device/compute.ts"

export type RunError = ExchangeError | ComputeFailed

/** Head wanted of a pass, for the rank that has it. */
export type Head = Extract<Op, { readonly op: "head" }>

/** The rows of a pass, by sessions: in a draft several may run together. */
export type Rows = ReadonlyArray<Segment>

/** Where a pass runs: this rank's place in its group. */
export interface GroupLayout {
  readonly rank: number
  readonly ranks: number
  readonly layers: number
  readonly width: number // of the hidden state
  readonly owners: ReadonlyArray<number> // the rank that holds each layer's attention
}

/** What one pass runs with. `computed` adds up the device's time. */
export interface PassContext {
  readonly sessions: ReadonlyArray<string> // that run together, in the order of the command
  readonly layout: GroupLayout
  readonly compute: Compute["Service"]
  readonly exchange: Exchange
  readonly computed: (micros: number) => void
  readonly vocabulary: number // tokens that may be proposed
}

export interface Strategy {
  /** The rank that holds each layer's attention, and so its KV. `n` is the deployment's fuzzy group size. */
  readonly owners: (layers: number, ranks: number, n: number) => ReadonlyArray<number>
  /** What each rank of the group holds, in their order. */
  readonly shards: (layers: number, ranks: number, n: number) => ReadonlyArray<Shard>
  /**
   * Where the sessions are found that a pass of a draft can carry together: in the ranks, each by itself (coalesce.ts), or in
   * the supervisor, since all of the ranks have to see the same rows.
   */
  readonly batches: "ranks" | "supervisor"
  /** The rank that has the head. It answers, and holds the tree of a draft. */
  readonly leader: (ranks: number) => number
  /** An exact pass over rows that every rank knows. The head's result on the leader, null on the others. */
  readonly exact: (context: PassContext, rows: Rows, head: Head | null) => Effect.Effect<StretchResult | null, RunError>
  /** On the leader: a pass of a draft over a frontier that the other ranks do not know yet, with fuzzy groups of `n` layers. */
  readonly lead: (
    context: PassContext,
    rows: Rows,
    n: number,
    head: Head,
  ) => Effect.Effect<StretchResult | null, RunError>
  /** On the others: their part of the next pass of a draft; false when the leader has ended it. */
  readonly follow: (context: PassContext, n: number) => Effect.Effect<boolean, RunError>
  /** On the leader: tells the others that no further pass of this draft comes. */
  readonly end: (context: PassContext) => Effect.Effect<void, RunError>
}

/** A batch whose time is added to the course's. */
export const batch = <A, E>(context: PassContext, rows: Rows, use: (batch: Batch) => Effect.Effect<A, E>) =>
  context.compute.batch(rows, (batch) =>
    Effect.ensuring(
      use(batch),
      Effect.sync(() => context.computed(batch.micros())),
    ),
  )

/** A pass of one native call, whose time is added to the course's. */
export const once = (context: PassContext, rows: Rows, ops: ReadonlyArray<Op>) =>
  Effect.tap(context.compute.once(rows, ops), ({ micros }) => Effect.sync(() => context.computed(micros)))

/** A group of layers as one rank runs it alone: a single layer in order, more of them with their attentions all reading the first h. */
export const groupOps = (group: ReadonlyArray<number>): ReadonlyArray<Op> => {
  const [first] = group
  if (first === undefined) return []
  if (group.length === 1) return [{ op: "layers", from: first, to: first + 1 }]
  return [
    { op: "attend", layers: group, returned: false },
    { op: "mlps", layers: group, attended: group.map(() => null) },
  ]
}

export const hidden = (context: PassContext, result: StretchResult, nodes: Uint8Array = NO_NODES): Payload => {
  const [h] = result.hiddens
  if (h === undefined) throw new Error("a stretch that ends with `emit` has a hidden state")
  const { width } = context.layout
  return { tokens: h.byteLength / width / Float32Array.BYTES_PER_ELEMENT, width, blocks: [h], nodes }
}

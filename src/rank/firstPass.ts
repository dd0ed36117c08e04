// A rank's first pass: one token through all that it holds, before it says that it is ready. What a device or a file cannot
// do shows here, and not to a user; and the weights are in memory afterwards.
import { Effect } from "effect"
import type { Op, Shard } from "../../native/index.ts"
import { positionOf } from "../speculation/indices.ts"
import { GREEDY } from "../wire/pass.ts"
import { chain } from "./device/chain.ts"
import type { Compute, ComputeFailed } from "./device/compute.ts"
import { rangesOf } from "./strategy/shards.ts"

const SESSION = "first pass"

/** `width` of the hidden state. */
export const firstPass = (
  compute: Compute["Service"],
  shard: Shard,
  width: number,
): Effect.Effect<void, ComputeFailed> =>
  Effect.acquireUseRelease(
    compute.open(SESSION, GREEDY),
    () => compute.batch([chain(SESSION, positionOf(0), [0])], ({ run }) => Effect.asVoid(run(opsOf(shard, width)))),
    () => compute.close(SESSION),
  )

const opsOf = ({ attention, embed, head }: Shard, width: number): ReadonlyArray<Op> => [
  embed ? { op: "embed" } : { op: "receive", hidden: new Uint8Array(width * Float32Array.BYTES_PER_ELEMENT) },
  ...rangesOf(attention).map(({ from, to }) => ({ op: "layers", from, to }) as const),
  head ? { op: "head", rows: Int32Array.of(0), want: "tokens" } : { op: "emit" },
]

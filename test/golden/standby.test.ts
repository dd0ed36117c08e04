// A standby's promise: what it takes over from a rank that died goes on with the same bits. Each strategy's shards, computed
// layer by layer over their owners; then each rank in turn is another engine, of the whole model narrowed to the rank's
// shard, with the rank's KV as deltas.
import { Effect } from "effect"
import { describe, expect, test } from "vitest"
import { type Engine, native, type Op, type Shard } from "../../native/index.ts"
import { type Model, open, wholeShard } from "../../src/model/index.ts"
import { ownersOf, type Split, shardsOf } from "../../src/rank/strategy/strategies.ts"
import { howToGet, isMissing, weights } from "../weights.ts"
import { GREEDY, head, keep, line } from "./engines.ts"

const FUZZY = 4
const TOKENS = Array.from({ length: 40 }, (_, i) => (i * i * 31 + 17 * i + 5) % 4000)
const BEFORE = 33 // tokens, of which the last are committed in another delta than the first

const SPLITS: ReadonlyArray<Split> = [
  { strategy: "single", ranks: 1 },
  { strategy: "pipeline", ranks: 2 },
  { strategy: "layer", ranks: 2 },
  { strategy: "layer", ranks: 3 },
]

const SUBJECTS = [
  { name: "demo base, f16", path: "models/demo/base", kvType: "f16", skip: false },
  { name: "demo base, f32", path: "models/demo/base", kvType: "f32", skip: false },
  { name: `smollm2, f16${howToGet("smollm2")}`, path: weights("smollm2"), kvType: "f16", skip: isMissing("smollm2") },
  { name: `smollm2, f32${howToGet("smollm2")}`, path: weights("smollm2"), kvType: "f32", skip: isMissing("smollm2") },
] as const

native.loadBackends(".chorus/backends")

const load = ({ shape, tensors }: Model, shard: Shard, kvType: "f16" | "f32") =>
  native.load({ shape, tensors, shard, kvType, deterministic: true, threads: 1, device: "CPU" })

for (const { name, path, kvType, skip } of SUBJECTS) {
  describe.skipIf(skip)(name, () => {
    test.each(SPLITS)("$strategy, $ranks ranks", async (split) => {
      const model = await Effect.runPromise(open(path))
      const shards = shardsOf(split, model.shape, FUZZY)
      const owners = ownersOf(split, model.shape.layers, FUZZY)
      const ranks = await Promise.all(shards.map((shard) => load(model, shard, kvType)))
      for (const rank of ranks) rank.open("s", GREEDY)
      await pass(ranks, shards, owners, TOKENS.slice(0, 20))
      await pass(ranks, shards, owners, TOKENS.slice(20, BEFORE))
      const deltas = await Promise.all(
        ranks.map(async (rank) => [await rank.kvExport("s", 0, 20), await rank.kvExport("s", 20, BEFORE)]),
      )
      const expected = await pass(ranks, shards, owners, TOKENS.slice(BEFORE))
      for (const [lost, shard] of shards.entries()) {
        const standby = await load(model, wholeShard(model.shape), kvType)
        standby.narrow(shard)
        expect(standby.bytesOfKvPerToken).toBe(ranks[lost]?.bytesOfKvPerToken)
        standby.open("s", GREEDY)
        for (const delta of deltas[lost] ?? []) await standby.kvImport("s", delta)
        for (const rank of ranks) rank.truncate("s", BEFORE)
        const now = ranks.map((rank, i) => (i === lost ? standby : rank))
        const found = await pass(now, shards, owners, TOKENS.slice(BEFORE))
        expect(Buffer.from(found.buffer).equals(Buffer.from(expected.buffer))).toBe(true)
        standby.dispose()
      }
      for (const rank of ranks) rank.dispose()
    })
  })
}

/** An exact pass as `layer` does it, which is right for every strategy: h goes to the owner of the next layer. Its logits. */
const pass = async (
  ranks: ReadonlyArray<Engine>,
  shards: ReadonlyArray<Shard>,
  owners: ReadonlyArray<number>,
  tokens: ReadonlyArray<number>,
): Promise<Float32Array> => {
  const passes = ranks.map((rank) => rank.begin([line(rank, "s", tokens)]))
  const stretch = async (rank: number, ops: ReadonlyArray<Op>) => {
    const part = passes[rank]
    if (part === undefined) throw new RangeError(`rank ${rank} of ${ranks.length}`)
    return part.run(ops)
  }
  let h = (await stretch(0, [{ op: "embed" }, { op: "emit" }])).hiddens[0] ?? new Uint8Array()
  for (const [layer, owner] of owners.entries()) {
    const ops: ReadonlyArray<Op> = [
      { op: "receive", hidden: h },
      { op: "layers", from: layer, to: layer + 1 },
      { op: "emit" },
    ]
    h = (await stretch(owner, ops)).hiddens[0] ?? new Uint8Array()
  }
  const last = shards.findIndex((shard) => shard.head)
  const { logits } = await stretch(last, [{ op: "receive", hidden: h }, head(tokens.keys())])
  for (const part of passes) part.end()
  for (const rank of ranks) await keep(rank, "s", tokens.length)
  return logits ?? new Float32Array()
}

// Drafting along a known text: the base's greedy tokens, made once. To verify is then to compare, so only the draft runs.
import type { Op } from "../../native/index.ts"
import { exact, fuzzy, type Schedule } from "../../src/speculation/schedule.ts"
import { append, commitAll, exactOps, type Loaded, prefill, tokenAfter, withSession } from "../engine.ts"

/** A way to run the draft's passes. */
export interface Variant {
  readonly n: number // layers of a fuzzy group; 1 is the exact draft
  readonly calibrate: boolean // false: the fuzzy KV of accepted tokens stays
  readonly whole: boolean // ablation: whole layers in parallel, not their attentions alone
}

/** A text's tokens, and where the part begins that the base has made. */
export interface Text {
  readonly tokens: ReadonlyArray<number>
  readonly prompt: number
}

/** Tokens accepted in each iteration of a greedily drafted chain; the bonus token is not counted. */
export const acceptedLengths = (
  draft: Loaded,
  { tokens, prompt }: Text,
  depth: number,
  variant: Variant,
): Promise<ReadonlyArray<number>> =>
  withSession(draft, "acceptance", async () => {
    const { engine } = draft
    const pass = (rows: ReadonlyArray<number>, ops: ReadonlyArray<Op>) =>
      append(draft, "acceptance", rows, [...ops, tokenAfter(rows.length - 1)])
    const fuzzyOps = opsOf(fuzzy(draft.model.shape.layers, variant.n), variant.whole)
    const lengths: Array<number> = []
    await prefill(draft, "acceptance", tokens.slice(0, prompt))
    for (let at = prompt + 1; at + depth < tokens.length; ) {
      if (variant.calibrate) engine.truncate("acceptance", engine.committed("acceptance"))
      const lacking = tokens.slice(engine.used("acceptance"), at) // the bonus token last
      let result = await pass(lacking, variant.calibrate ? exactOps(draft.model) : fuzzyOps)
      if (variant.calibrate) await commitAll(draft, "acceptance")
      let accepted = 0
      while (result.tokens?.[0] === tokens[at + accepted]) {
        accepted += 1
        if (accepted === depth) break
        result = await pass(tokens.slice(at + accepted - 1, at + accepted), fuzzyOps)
      }
      if (!variant.calibrate) await commitAll(draft, "acceptance") // all that ran has been accepted
      lengths.push(accepted)
      at += accepted + 1
    }
    return lengths
  })

const TRACED = 4 // tokens drafted one after the other

/** Cosine of each layer's output, exact against a variant, of tokens drafted after an exact prefix. */
export const cosines = async (draft: Loaded, { tokens }: Text, variant: Variant): Promise<ReadonlyArray<number>> => {
  const { layers, width } = draft.model.shape
  const cut = Math.floor((tokens.length * 3) / 4)
  const trace = (schedule: Schedule, whole: boolean) =>
    withSession(draft, "trace", async () => {
      await prefill(draft, "trace", tokens.slice(0, cut))
      const hiddens: Array<ReadonlyArray<Float32Array>> = []
      for (const token of tokens.slice(cut, cut + TRACED)) {
        const result = await append(draft, "trace", [token], opsOf(schedule, whole, { emit: true }))
        hiddens.push(result.hiddens.map((bytes) => new Float32Array(bytes.slice().buffer, 0, width)))
      }
      return hiddens
    })
  const straight = await trace(exact(layers), false)
  const varied = await trace(fuzzy(layers, variant.n), variant.whole)
  return Array.from({ length: layers }, (_, layer) => {
    const each = straight.map((token, i) => cosine(token[layer], varied[i]?.[layer]))
    return each.reduce((sum, value) => sum + value, 0) / each.length
  })
}

/** A pass by a schedule; with `emit`, the hidden state after every layer. */
const opsOf = (schedule: Schedule, whole: boolean, { emit = false } = {}): ReadonlyArray<Op> => {
  const emitted: ReadonlyArray<Op> = emit ? [{ op: "emit" }] : []
  const groups = schedule.map((group): ReadonlyArray<Op> => {
    const [first = 0] = group
    if (group.length === 1) return [{ op: "layers", from: first, to: first + 1 }, ...emitted]
    const mlps = group.flatMap(
      (layer): ReadonlyArray<Op> => [{ op: "mlps", layers: [layer], attended: [null], whole }, ...emitted],
    )
    return [{ op: "attend", layers: group }, ...mlps]
  })
  return [{ op: "embed" }, ...groups.flat()]
}

const cosine = (a: Float32Array = new Float32Array(), b: Float32Array = new Float32Array()): number => {
  const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, value, i) => sum + value * (y[i] ?? 0), 0)
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
}

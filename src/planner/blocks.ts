// How long the blocks of a model take on a device. Two sources: a description of the hardware (roofline: a block takes its
// launches, and the longer of moving its bytes and computing its products), or a profile that was measured.
import type { Device } from "./hardware.ts"
import { attentionWeights, headWeights, type ModelShape, mlpWeights } from "./models.ts"

/** Seconds of each block. `parts` is the number of ranks that a block is split over: this is one rank's share. */
export interface Blocks {
  readonly embed: (rows: number) => number
  readonly attention: (rows: number, context: number, parts: number) => number
  readonly mlp: (rows: number, parts: number) => number
  readonly head: (rows: number, parts: number) => number // final norm, output matrix and the choice of candidates
  readonly stretch: number // of each uninterrupted stretch of blocks, beside them: one native call
}

export const described = (device: Device, model: ModelShape): Blocks => {
  const { heads, kvHeads, headDim, weightBytes, kvBytes, width } = model
  const { launchSeconds, kernels } = device
  const roof = (bytes: number, flops: number) => Math.max(bytes / device.bytesPerSecond, flops / device.flops)
  const product = (weights: number, rows: number) => roof(weights * weightBytes, 2 * rows * weights)
  return {
    embed: (rows) => launchSeconds + (rows * width * weightBytes) / device.bytesPerSecond,
    // Heads are whole, so the longest share counts; with more ranks than KV heads, several ranks keep the same one.
    attention: (rows, context, parts) => {
      const [mine, kept] = [Math.ceil(heads / parts), Math.ceil(kvHeads / parts)]
      const weights = attentionWeights({ ...model, heads: mine, kvHeads: kept })
      const seen = roof(2 * context * kept * headDim * kvBytes, 4 * rows * context * mine * headDim)
      return kernels.attention * launchSeconds + product(weights, rows) + seen
    },
    mlp: (rows, parts) => kernels.mlp * launchSeconds + product(mlpWeights(model) / parts, rows),
    head: (rows, parts) => kernels.head * launchSeconds + product(headWeights(model) / parts, rows),
    stretch: 0,
  }
}

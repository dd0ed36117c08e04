// Models as the cost model sees them: what their blocks weigh and compute. Nothing here opens a file.

export interface ModelShape {
  readonly name: string
  readonly layers: number
  readonly width: number // d
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly ffn: number
  readonly vocab: number
  readonly weightBytes: number // of one weight, scales of quantisation included
  readonly kvBytes: number // of one value of K or V
}

/** A base, and the draft that guesses for it. */
export interface Pair {
  readonly name: string
  readonly base: ModelShape
  readonly draft: ModelShape
}

/** Weights of one layer's attention: q and output, k and v. */
export const attentionWeights = ({ width, heads, kvHeads, headDim }: ModelShape): number =>
  2 * width * headDim * (heads + kvHeads)

/** Weights of one layer's MLP: gate, up, down. */
export const mlpWeights = ({ width, ffn }: ModelShape): number => 3 * width * ffn

export const headWeights = ({ width, vocab }: ModelShape): number => width * vocab

/** Of all weights; the embedding counts beside the head. */
export const bytesOf = (model: ModelShape): number =>
  model.weightBytes * (model.layers * (attentionWeights(model) + mlpWeights(model)) + 2 * headWeights(model))

/** Of one position in all layers. */
export const kvBytesPerToken = ({ layers, kvHeads, headDim, kvBytes }: ModelShape): number =>
  2 * layers * kvHeads * headDim * kvBytes

const BF16 = { weightBytes: 2, kvBytes: 2 }

export const LLAMA_3: Pair = {
  name: "Llama-3 70B / 8B",
  base: {
    ...{ name: "Llama-3 70B", layers: 80, width: 8192, heads: 64, kvHeads: 8, headDim: 128 },
    ...{ ffn: 28672, vocab: 128256, ...BF16 },
  },
  draft: {
    ...{ name: "Llama-3 8B", layers: 32, width: 4096, heads: 32, kvHeads: 8, headDim: 128 },
    ...{ ffn: 14336, vocab: 128256, ...BF16 },
  },
}

export const QWEN_2: Pair = {
  name: "Qwen2 72B / 7B",
  base: {
    ...{ name: "Qwen2 72B", layers: 80, width: 8192, heads: 64, kvHeads: 8, headDim: 128 },
    ...{ ffn: 29568, vocab: 152064, ...BF16 },
  },
  draft: {
    ...{ name: "Qwen2 7B", layers: 28, width: 3584, heads: 28, kvHeads: 4, headDim: 128 },
    ...{ ffn: 18944, vocab: 152064, ...BF16 },
  },
}

/** The same pair with weights of about 4.6 bits, as GGUF's Q4_K_M has them. */
export const quantised = ({ name, base, draft }: Pair): Pair => ({
  name: `${name} in Q4_K_M`,
  base: { ...base, weightBytes: 0.575 },
  draft: { ...draft, weightBytes: 0.575 },
})

// Qwen 3: Llama's layers with norms of each head's q and k (arXiv 2505.09388).
import type { Architecture } from "./architecture.ts"
import { attention, gatedMlp, headNorms } from "./modules.ts"

export const qwen3: Architecture = {
  name: "qwen3",
  layer: [...attention("optional"), ...headNorms, ...gatedMlp],
  ggufRopePairs: "halves",
  defaults: { kvHeads: 32, headDim: 128, context: 32_768 }, // Qwen3Config
  slidingWindow: { length: 4096, fromLayer: 28 },
}

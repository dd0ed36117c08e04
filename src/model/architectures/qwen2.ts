// Qwen 2 and 2.5: Llama's layers with biases of q, k and v (arXiv 2407.10671).
import type { Architecture } from "./architecture.ts"
import { attention, gatedMlp } from "./modules.ts"

export const qwen2: Architecture = {
  name: "qwen2",
  layer: [...attention("required"), ...gatedMlp],
  ggufRopePairs: "halves",
  defaults: { kvHeads: 32, headDim: null, context: 32_768 }, // Qwen2Config
  slidingWindow: { length: 4096, fromLayer: 28 },
}

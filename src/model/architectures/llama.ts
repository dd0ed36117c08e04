// Llama, and what shares its layers: SmolLM2, Mistral (arXiv 2307.09288, 2407.21783).
import type { Architecture } from "./architecture.ts"
import { attention, gatedMlp } from "./modules.ts"

export const llama: Architecture = {
  name: "llama",
  layer: [...attention("optional"), ...gatedMlp],
  ggufRopePairs: "neighbours", // llama.cpp's converter reorders the rows of q and k
  defaults: { kvHeads: null, headDim: null, context: 2048 }, // LlamaConfig
  slidingWindow: null,
}

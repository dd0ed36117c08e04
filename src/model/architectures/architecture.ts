// An architecture as the files of a model have it: a layer's tensors by their names in both formats, and what a configuration
// leaves unsaid. What a layer computes is in the file of the same name in native/architectures.
import type { Shape } from "../../../native/index.ts"

/** A weight of a layer, and its bias. */
export interface Module {
  readonly gguf: string // behind "blk.N."
  readonly huggingFace: string // behind "model.layers.N."
  readonly weight: (shape: Shape) => ReadonlyArray<number> // ggml's order: [inputs, outputs], or [size] of a norm
  /** "optional": a GGUF file may have one. A folder may not: transformers' class would leave it out. */
  readonly bias?: "required" | "optional"
}

export interface Architecture {
  readonly name: string // general.architecture of a GGUF file, model_type of a config.json
  readonly layer: ReadonlyArray<Module>
  readonly ggufRopePairs: Shape["ropePairs"] // a Hugging Face folder's are halves
  /** Defaults of transformers' configuration class. Null: made from the other fields. */
  readonly defaults: { readonly kvHeads: number | null; readonly headDim: number | null; readonly context: number }
  /**
   * Of its sliding windows by default: their length, and the layer that they begin at if use_sliding_window is on. Null: there
   * is no such switch, and a window is one wherever config.json has its length.
   */
  readonly slidingWindow: { readonly length: number; readonly fromLayer: number } | null
}

// The native module's interface: load a shard, run stretches of passes on it, keep its KV. Everything that the addon exports
// is described here, and only this file loads it. Every argument is checked on the native side: a bad one throws a
// TypeError that names it ("layers[2] is 31; expected a layer of 4 to 7") and never harms the process.
import { createRequire } from "node:module"
import { join } from "node:path"

/** Where ggml's backends lie: a link that the set-up keeps. */
export const BACKENDS = join(import.meta.dirname, "..", ".chorus/backends")

/** ggml's weight types, by the names that GGUF and safetensors give them in lower case: "f32", "bf16", "q4_K", ... */
export type WeightType = string

/** What the graphs have to know of a model. Sizes are counts of values. */
export interface Shape {
  readonly architecture: string // of native/architectures: what a layer consists of
  readonly layers: number
  readonly width: number // d, of the hidden state
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly ffn: number // of the MLP's inner state
  readonly vocab: number // rows of the embedding, padding included
  readonly context: number // positions
  readonly normEps: number
  readonly ropeTheta: number
  readonly ropeDim: number // values of a head that are rotated
  readonly ropePairs: "halves" | "neighbours" // x[i] with x[i + ropeDim / 2] (Hugging Face), or x[2i] with x[2i + 1] (GGUF's llama)
  readonly ropeFactors: Float32Array | null // ropeDim / 2 divisors of the frequencies (Llama 3's scaling)
}

/** Where a tensor's bytes lie. Names are GGUF's: token_embd, output_norm, output, blk.I.attn_q.weight, ... */
export interface TensorSource {
  readonly name: string
  readonly file: string
  readonly offset: number // bytes from the start of the file
  readonly bytes: number
  readonly type: WeightType
  readonly shape: ReadonlyArray<number> // ggml's order: the contiguous dimension first, so a linear is [in, out]
}

/** The part of a model that a rank holds. */
export interface Shard {
  readonly attention: ReadonlyArray<number> // layers whose attention, and so whose KV, is here
  readonly mlp: ReadonlyArray<number>
  readonly embed: boolean
  readonly head: boolean
}

export interface Device {
  readonly name: string // "CPU", "CUDA0"
  readonly description: string
  readonly kind: "cpu" | "gpu"
  readonly variant: string // the CPU backend that was chosen ("icelake"), or the GPU's architecture
  readonly memoryFree: number // bytes
  readonly memoryTotal: number
}

export interface EngineOptions {
  readonly shape: Shape
  readonly tensors: ReadonlyArray<TensorSource>
  readonly shard: Shard
  readonly device: string // a Device's name
  readonly threads: number
  readonly deterministic: boolean // a row's logits are the same bits in every batch, tree and strategy
  readonly kvType: "f16" | "f32"
}

/**
 * How a token is chosen (src/speculation/sampler.ts): the logits are biased and penalised, divided by the temperature, cut by
 * top-k, then top-p, then min-p, each of which keeps the best of what the one before left, and perturbed. Switched off by
 * topK 0, topP 1, minP 0, repetitionPenalty 1, and by leaving out what may be.
 */
export interface Sampling {
  readonly temperature: number // 0 is argmax
  readonly topK: number
  readonly topP: number
  readonly minP: number
  readonly repetitionPenalty: number
  /** Of the tokens at position `from` and after it: `presence` for having come, `frequency` for each time. */
  readonly penalties?: { readonly presence: number; readonly frequency: number; readonly from: number }
  readonly bias?: ReadonlyArray<readonly [token: number, logit: number]> // is added; -100 and less is a ban
  /** Tokens that are not chosen for positions before `before`. */
  readonly barred?: { readonly tokens: ReadonlyArray<number>; readonly before: number }
  readonly seed: bigint // 64 bits, the key of Philox4x32-10
}

/**
 * The rows that one session adds to a pass. They take the slots from `used(session)` on; `parents[i]` is the slot of row
 * i's parent (the slot before it in a chain, -1 for a sequence's first token), which may be a row of this same segment.
 * A row's position is its parent's plus one; it sees the committed slots, its ancestors and itself.
 */
export interface Segment {
  readonly session: string
  readonly tokens: Int32Array
  readonly parents: Int32Array
}

/**
 * One step of a stretch. h is the pass's hidden state, f32 [tokens, width], kept on the device between stretches.
 *  embed     h = the tokens' embeddings
 *  receive   h = `hidden`, f32 [tokens, width] as bytes of any alignment
 *  layers    for i in [from, to): h += A_i(h); h += MLP_i(h)
 *  attend    A_i(h) for the given layers of this shard, all from the same h; kept for `mlps`, and returned in
 *            `attended` unless `returned` is false
 *  mlps      for each layer i in order: h += A_i; h += MLP_i(h). `attended[j]` is layer j's A as bytes, or null: the one
 *            that this shard's own `attend` kept last. A layer is listed once. `whole` is the ablation with whole layers in parallel:
 *            h += A_i + MLP_i(first + A_i), first being the h that `attend` read.
 *  emit      returns a copy of h in `hiddens`
 *  head      final norm and output matrix for the rows named (indices in the batch), then one of
 *            tokens: the sampler's token after each row, or the one that is given; candidates: the k best of each row by the sampler's
 *            perturbed logits, best first, with their log-probabilities under softmax(perturbed logits); logits
 */
export type Op =
  | { readonly op: "embed" }
  | { readonly op: "receive"; readonly hidden: Uint8Array }
  | { readonly op: "layers"; readonly from: number; readonly to: number }
  | { readonly op: "attend"; readonly layers: ReadonlyArray<number>; readonly returned?: boolean }
  | {
      readonly op: "mlps"
      readonly layers: ReadonlyArray<number>
      readonly attended: ReadonlyArray<Uint8Array | null>
      readonly whole?: boolean
    }
  | { readonly op: "emit" }
  | {
      readonly op: "head"
      readonly rows: Int32Array
      readonly want: "tokens" | "candidates" | "logits"
      readonly k?: number
      readonly top?: number // with tokens: how many of the most probable tokens of each row to return besides
      readonly given?: Int32Array // with tokens: one per row, whose log-probabilities are returned; nothing is sampled
    }

export interface StretchResult {
  readonly hiddens: ReadonlyArray<Uint8Array> // of each `emit`, f32 [tokens, width]
  readonly attended: ReadonlyArray<Uint8Array> // of each layer attended to whose A is returned, in order, f32 [tokens, width]
  readonly tokens: Int32Array | null // head "tokens": [rows]; "candidates": [rows, k]
  readonly logProbs: Float32Array | null // head "tokens": of the chosen token under softmax(logits), [rows]; "candidates": [rows, k]
  readonly topTokens: Int32Array | null // head "tokens" with `top`: the most probable ones under softmax(logits), best first, [rows, top]
  readonly topLogProbs: Float32Array | null
  readonly logits: Float32Array | null // head "logits": [rows, vocab]
  readonly micros: number // computing, on the module's own thread
}

/** A pass over a batch. Its slots are taken when it is made; its h lives until `end`, and until its stretches have settled. */
export interface Pass {
  /**
   * One native call a stretch between hops; what is asked for at once runs in turn. Rejects with code "ABORTED" after
   * `Engine.abort`, and then, or when it could not be finished, the next stretch begins with `embed` or `receive`. Rejects
   * with code "INVALID" where a step lacks the h or the A_i that it starts from.
   */
  run(ops: ReadonlyArray<Op>): Promise<StretchResult>
  end(): void
}

/**
 * A session belongs to one caller at a time: while one of its passes has not ended, or a promise about it has not settled,
 * whatever would change or close it throws.
 */
export interface Engine {
  readonly maxRows: number // of one pass
  readonly bytesOfWeights: number // mapped or uploaded for this shard
  readonly bytesOfKvPerToken: number
  open(session: string, sampling: Sampling): void
  close(session: string): void
  sessions(): ReadonlyArray<string>
  /** Slots in use: the committed ones and those of the current tree. */
  used(session: string): number
  committed(session: string): number
  begin(segments: ReadonlyArray<Segment>): Pass
  /**
   * Keeps the given slots beyond the committed ones (a path, in depth order), moves them together, and drops the rest.
   * Where nothing has to be moved it is done when the call returns.
   */
  commit(session: string, slots: Int32Array): Promise<void>
  /** Drops every slot from `length` on, committed ones too. */
  truncate(session: string, length: number): void
  /** The committed KV of positions [from, to) of this shard's layers, with their tokens: a KV delta. */
  kvExport(session: string, from: number, to: number): Promise<Uint8Array>
  /** Appends a KV delta that begins at the committed length. */
  kvImport(session: string, bytes: Uint8Array): Promise<void>
  bytesOfKv(): number // allocated
  /** Aborts the stretch that is computing and those that wait. */
  abort(): void
  /**
   * Makes it an engine of a part of its shard, without loading anything: a standby, which has all of a model, takes one
   * rank's place. It has no sessions then; `bytesOfKvPerToken` is the part's.
   */
  narrow(shard: Shard): void
  /** Frees everything. Later calls throw. */
  dispose(): void
}

interface Addon {
  /** Loads ggml's backends from a folder, once per process; a later call with the same folder does nothing. */
  loadBackends(folder: string): void
  devices(): ReadonlyArray<Device>
  /** Maps the shard's tensors. `progress` gets a fraction from 0 to 1. */
  load(options: EngineOptions, progress?: (fraction: number) => void): Promise<Engine>
  /** Philox4x32-10: four 32-bit words from a counter of four and a key of two. For the known-answer test. */
  philox(counter: Uint32Array, key: Uint32Array): Uint32Array
  /** The sampler by itself, as `head` runs it: the token at `position` after `history`. */
  sample(logits: Float32Array, sampling: Sampling, position: number, history: Int32Array): number
}

const require = createRequire(import.meta.url)
export const native = require("../build/Release/chorus.node") as Addon

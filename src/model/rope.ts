// The stretching of the rotary embedding to longer contexts, as divisors of its frequencies: Llama 3's, and the linear one.
import { ModelCorrupt } from "./errors.ts"

export interface Llama3Scaling {
  readonly factor: number
  readonly low_freq_factor: number
  readonly high_freq_factor: number
  readonly original_max_position_embeddings: number
}

/**
 * [ropeDim / 2] divisors: 1 for wavelengths well inside the original context, `factor` for those beyond it, and a blend
 * between the two bounds. The same numbers as `_compute_llama3_parameters` of Hugging Face's transformers gives.
 */
export const llama3Factors = (scaling: Llama3Scaling, theta: number, ropeDim: number): Float32Array => {
  const { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: original } = scaling
  return Float32Array.from({ length: ropeDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * i) / ropeDim)
    if (wavelength < original / high) return 1
    if (wavelength > original / low) return factor
    const smooth = (original / wavelength - low) / (high - low)
    return 1 / ((1 - smooth) / factor + smooth)
  })
}

/** Linear scaling on top of what there is: every frequency divided by `factor`. */
export const dividedBy = (factor: number, factors: Float32Array | null, ropeDim: number): Float32Array | null =>
  factor === 1 ? factors : (factors ?? new Float32Array(ropeDim / 2).fill(1)).map((each) => each * factor)

/** Throws unless every divisor is a positive number. */
export const checkFactors = (file: string, factors: Float32Array): Float32Array => {
  const bad = factors.find((factor) => !(factor > 0 && Number.isFinite(factor)))
  if (bad !== undefined)
    throw new ModelCorrupt({ file, reason: `${bad} is among the divisors of its rope frequencies` })
  return factors
}

// One byte a file says how it ended. The one that a crash leaves is then the first without.
import { OUTCOMES, type Outcome } from "./attempt.ts"
import type { Loader } from "./corpus.ts"

const LOADERS: ReadonlyArray<Loader> = ["safetensors", "gguf"]

export const byteOf = (loader: Loader, outcome: Outcome): number =>
  1 + LOADERS.indexOf(loader) * OUTCOMES.length + OUTCOMES.indexOf(outcome)

export interface Result {
  readonly loader: Loader
  readonly outcome: Outcome
}

/** Null for a file that has not ended. */
export const resultOf = (byte: number): Result | null => {
  const loader = LOADERS[Math.floor((byte - 1) / OUTCOMES.length)]
  const outcome = OUTCOMES[(byte - 1) % OUTCOMES.length]
  return loader === undefined || outcome === undefined ? null : { loader, outcome }
}

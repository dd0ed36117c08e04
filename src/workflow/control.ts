// Which tree the next iteration drafts, if any.
import type { TreeShape } from "../speculation/tree.ts"
import type { Generation } from "./generation.ts"

export const choose = (generation: Generation): TreeShape | null => {
  const { speculation, maxTokens, prompt } = generation.request
  const left = maxTokens - (generation.tokens.length - prompt.length)
  if (left === 1 || speculation === "none") return null // the bonus token alone is enough
  if (speculation === "adaptive") return null
  return { ...speculation, depth: Math.min(speculation.depth, left - 1) }
}

export const observe = (_generation: Generation, _observed: unknown): void => {}

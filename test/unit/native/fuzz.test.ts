// Some hundred mutated model files through the loaders, each to a model and a pass or to an error of ours. `npm run fuzz`
// does the same for any number, with sanitizers in the native module.
import { expect, test } from "vitest"
import type { Outcome } from "../../fuzz/attempt.ts"
import { countOf, fuzz } from "../../fuzz/fuzzing.ts"

const FILES = 400

test("a mutated file is refused by name, or it computes", { timeout: 240_000 }, async () => {
  const { counts, failures } = await fuzz({ seed: 20_261, from: 0, to: FILES, sanitized: false, say: () => {} })
  expect(failures).toEqual([])
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0)
  expect(total).toBe(FILES)
  const count = (outcome: Outcome) =>
    countOf(counts, { loader: "safetensors", outcome }) + countOf(counts, { loader: "gguf", outcome })
  for (const outcome of ["a pass ran", "ModelCorrupt", "TensorMismatch", "refused by the native module"] as const) {
    expect(count(outcome), outcome).toBeGreaterThan(0)
  }
})

// What a machine has of a model, without reading it: enough to say whether a rank could load it here.
import { readdir, stat } from "node:fs/promises"
import { join } from "node:path"
import { Effect } from "effect"
import type { LookedAt } from "../wire/host.ts"

export const lookAt = (path: string): Effect.Effect<LookedAt> =>
  Effect.promise(async () => {
    try {
      const bytes = await bytesOfWeights(path)
      return { path, bytes, error: bytes === 0 ? `${path} holds no weights` : "" }
    } catch (error) {
      const missing = error instanceof Error && "code" in error && error.code === "ENOENT"
      const reason = missing ? `there is nothing at ${path}` : `${error instanceof Error ? error.message : error}`
      return { path, bytes: 0, error: reason }
    }
  })

/** Of a GGUF file, or of a folder's safetensors. */
const bytesOfWeights = async (path: string): Promise<number> => {
  const found = await stat(path)
  if (!found.isDirectory()) return found.size
  const weights = (await readdir(path)).filter((file) => file.endsWith(".safetensors"))
  const sizes = await Promise.all(weights.map((file) => stat(join(path, file))))
  return sizes.reduce((sum, { size }) => sum + size, 0)
}

// The weights that benchmarks run on: the demo pair lies in the repository, the others in the user's cache.
import { existsSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import { BenchFailed } from "./failure.ts"

const ROOT = join(import.meta.dirname, "..")
const FOLDER =
  process.env.CHORUS_MODELS_DIR ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "chorus", "models")

const FILES = {
  "demo/base": join(ROOT, "models/demo/base"),
  "demo/draft": join(ROOT, "models/demo/draft"),
  smollm2: join(FOLDER, "smollm2-135m-instruct-q4_1.gguf"),
  "coder-0.5b": join(FOLDER, "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
  "coder-1.5b": join(FOLDER, "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
}
export type ModelName = keyof typeof FILES

/** The paths of models; all that are missing are named at once. */
export const pathsOf = <Names extends ReadonlyArray<ModelName>>(names: Names): { [name in Names[number]]: string } => {
  const missing = names.map((name) => FILES[name]).filter((path) => !existsSync(path))
  if (missing.length > 0)
    throw new BenchFailed(
      `These weights are missing:\n${missing.map((path) => `  ${path}`).join("\n")}\nThey are SmolLM2-135M-Instruct in Q4_1 and Qwen2.5-Coder-Instruct in Q4_K_M, as GGUF files; Hugging Face has them.\nPut them there, or name their folder in CHORUS_MODELS_DIR.`,
    )
  return FILES
}

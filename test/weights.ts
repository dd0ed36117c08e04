// Where the tests look for real weights, and what they say when there are none.
import { existsSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"

const folder =
  process.env.CHORUS_MODELS_DIR ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "chorus", "models")

const FILES = {
  smollm2: "smollm2-135m-instruct-q4_1.gguf",
  "coder-0.5b": "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
  "coder-1.5b": "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
} as const

export type Weights = keyof typeof FILES

export const weights = (name: Weights): string => join(folder, FILES[name])

export const isMissing = (...names: ReadonlyArray<Weights>): boolean => names.some((name) => !existsSync(weights(name)))

/** For the name of a test: how to get what it is skipped for; empty where everything is there. */
export const howToGet = (...names: ReadonlyArray<Weights>): string => {
  const missing = names.filter((name) => isMissing(name)).map((name) => FILES[name])
  if (missing.length === 0) return ""
  return ` (put ${missing.join(" and ")} into ${folder}, or name its folder in CHORUS_MODELS_DIR)`
}

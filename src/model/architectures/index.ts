// The architectures that Chorus runs. docs/ARCHITECTURES.md tells how to add one.
import { ModelUnsupported } from "../errors.ts"
import type { Architecture } from "./architecture.ts"
import { llama } from "./llama.ts"
import { qwen2 } from "./qwen2.ts"
import { qwen3 } from "./qwen3.ts"

export type { Architecture } from "./architecture.ts"

export const architectures: ReadonlyArray<Architecture> = [llama, qwen2, qwen3]

export const architectureOf = (file: string, name: string): Architecture => {
  const found = architectures.find((architecture) => architecture.name === name)
  if (found !== undefined) return found
  const names = architectures.map((architecture) => architecture.name).join(", ")
  throw new ModelUnsupported({ file, reason: `its architecture is "${name}"; Chorus runs ${names}` })
}

/** Whether its q, k and v have biases in every file. */
export const hasBiases = ({ layer }: Architecture): boolean => layer.some(({ bias }) => bias === "required")

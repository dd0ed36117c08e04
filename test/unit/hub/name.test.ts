// Names of models: what is one of the hub's, and which of a repository's files a quantisation means.
import { expect, test } from "vitest"
import { isModelFile, ofQuant, partsOf, quantOf, repositoryName } from "../../../src/hub/name.ts"

test.each([
  ["Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF:q4_k_m", "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "q4_k_m"],
  ["HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", null],
  ["unsloth/Qwen3-0.6B-GGUF:UD-Q4_K_XL", "unsloth/Qwen3-0.6B-GGUF", "UD-Q4_K_XL"],
])("%s is a name of the hub", (text, repository, quant) => {
  expect(repositoryName(text)).toEqual({ repository, quant })
})

test.each([
  ...["model.gguf", "models/base.gguf", "../models/base", "/models/base", "a/b/c", "a/b:", ":q4", "a/..", "./a", "~/a"],
])("%s is none", (text) => {
  expect(repositoryName(text)).toBeNull()
})

const FILES = [
  "Model-Q4_K_M.gguf",
  "Model-UD-Q4_K_M.gguf",
  "model.q4_k_s.gguf",
  "llama-2-7b.Q5_0.gguf",
  "gpt-oss-20b-mxfp4.gguf",
  "Model-f16.gguf",
  "BF16/Model-BF16-00001-of-00002.gguf",
  "BF16/Model-BF16-00002-of-00002.gguf",
  "Model-IQ4_XS.gguf",
  "Model-fast.gguf",
]

test.each([
  ["q4_k_m", ["Model-Q4_K_M.gguf"]],
  ["UD-Q4_K_M", ["Model-UD-Q4_K_M.gguf"]],
  ["Q4_K_S", ["model.q4_k_s.gguf"]],
  ["Q5_0", ["llama-2-7b.Q5_0.gguf"]],
  ["MXFP4", ["gpt-oss-20b-mxfp4.gguf"]],
  ["F16", ["Model-f16.gguf"]],
  ["bf16", ["BF16/Model-BF16-00001-of-00002.gguf", "BF16/Model-BF16-00002-of-00002.gguf"]],
  ["iq4_xs", ["Model-IQ4_XS.gguf"]],
  ["fast", ["Model-fast.gguf"]],
  ["q4", []],
  ["k_m", []],
  [".*", []],
] as const)("%s means %j", (quant, files) => {
  expect(ofQuant(FILES, quant)).toEqual(files)
})

test("what is written behind the colon means the same file again", () => {
  for (const file of FILES) expect(ofQuant(FILES, quantOf(file))).toContain(file)
})

test("parts and companions of a model are told from models", () => {
  expect(FILES.map(partsOf).filter((parts) => parts > 1)).toEqual([2, 2])
  const companions = [
    "mmproj-Model-F16.gguf",
    "Model.imatrix",
    "imatrix_unsloth.gguf",
    "README.md",
    "model.safetensors",
  ]
  expect(companions.filter(isModelFile)).toEqual([])
  expect(FILES.filter(isModelFile)).toEqual(FILES)
})

// What the command line says of models that are not run as their files want it, and of files that are no models: refused at
// once with the reason, and exit code 1.
import { mkdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { expect, test } from "vitest"
import { gguf, temporaryFolder, tinyConfig, tinyTokenizer, writeFolder, writeGguf } from "../unit/model/fixtures.ts"
import { commandLineOfEach } from "./commandLine.ts"

const chorus = commandLineOfEach()

const generate = (base: string) => chorus.run(["generate", "--prompt", "x", "--base", base])

const withEntries = (metadata: Record<string, string | number | boolean>) => writeGguf({ metadata })
const withConfig = (change: Record<string, unknown>) => writeFolder({ config: { ...tinyConfig("qwen2"), ...change } })
const adapter = (): string => {
  const folder = join(temporaryFolder(), "adapter")
  mkdirSync(folder)
  writeFileSync(join(folder, "adapter_config.json"), "{}")
  return folder
}
const besideGguf = (): string => {
  const folder = join(temporaryFolder(), "download")
  mkdirSync(folder)
  writeFileSync(join(folder, "model.gguf"), gguf())
  return folder
}

const cases: ReadonlyArray<readonly [why: string, model: () => string, message: string]> = [
  ["attention both ways", () => withEntries({ "llama.attention.causal": false }), "llama.attention.causal is false"],
  ["a factor of attention", () => withEntries({ "llama.rope.scaling.attn_factor": 1.5 }), "attn_factor is 1.5"],
  ["an unknown entry", () => withEntries({ "llama.rope.invented": 1 }), "llama.rope.invented is not known here"],
  ["experts", () => withEntries({ "llama.expert_count": 8 }), "it is a mixture of 8 experts"],
  ["an adapter", () => withEntries({ "general.type": "adapter", "adapter.type": "lora" }), "it is a LoRA adapter"],
  ["an importance matrix", () => withEntries({ "general.type": "imatrix" }), "it is an importance matrix"],
  ["a second part", () => withEntries({ "split.count": 2, "split.no": 1 }), "it is part 2 of 2; join them"],
  [
    "a sliding window",
    () => withConfig({ use_sliding_window: true, max_window_layers: 0, sliding_window: 8 }),
    "sliding_window is 8",
  ],
  [
    "a pre-tokenizer in tokenizer.json",
    () => writeFolder({ tokenizer: { ...tinyTokenizer(), pre_tokenizer: { type: "Metaspace" } } }),
    "its pre-tokenizer is Metaspace; implemented are ByteLevel",
  ],
  ["experts in config.json", () => withConfig({ num_experts: 4 }), "num_experts is 4"],
  ["a folder with an adapter", adapter, "it holds an adapter (adapter_config.json)"],
  ["a folder with a GGUF", besideGguf, "give the path of the GGUF file in it, model.gguf"],
]

test.each(cases)("%s is refused with the reason", async (_, model, message) => {
  const path = model()
  const { code, stdout, stderr } = await generate(path)
  expect(stderr).toContain(message)
  expect(stderr).toContain(path)
  expect(stderr).not.toContain("damaged")
  expect({ code, stdout, lines: stderr.trimEnd().split("\n").length }).toEqual({ code: 1, stdout: "", lines: 1 })
})

test("settings that change nothing, and defaults that are left out, are taken; a missing tokenizer.ggml.pre is said", async () => {
  const options = ["--max-tokens", "3", "--threads", "1", "--prompt", "ab", "--context", "32", "--json"]
  const run = async (path: string) => chorus.run(["generate", "--base", path, ...options])
  const tokenizer = tinyTokenizer()
  const folder = writeFolder({
    config: { ...tinyConfig("qwen2"), rms_norm_eps: undefined, use_sliding_window: true, sliding_window: 8 },
    tokenizer,
  })
  // How it is sampled is in its files too, and holds where the options do not say.
  writeFileSync(join(folder, "generation_config.json"), JSON.stringify({ temperature: 0.7, top_k: 5, top_p: 0.9 }))
  const taken = await run(folder)
  expect(taken).toMatchObject({ code: 0 })
  const off = { minP: 0, repetitionPenalty: 1 }
  expect(JSON.parse(taken.stdout).sampling).toEqual({ temperature: 0.7, topK: 5, topP: 0.9, ...off })
  expect(JSON.parse(taken.stdout).tokens).toHaveLength(3)
  const sampling = { "general.sampling.temp": 0.6, "general.sampling.top_k": 5 }
  const metadata = { "llama.attention.head_count_kv": [2, 2], "tokenizer.ggml.pre": undefined, ...sampling }
  const unnamed = writeGguf({ metadata })
  const warned = await run(unnamed)
  expect(warned).toMatchObject({ code: 0 })
  expect(JSON.parse(warned.stdout).sampling).toEqual({ temperature: 0.6, topK: 5, topP: 1, ...off })
  expect(warned.stderr.match(/tokenizer\.ggml\.pre is missing/g)).toHaveLength(1)
  const doctor = await chorus.run(["doctor"], { env: { CHORUS_MODELS_DIR: dirname(unnamed) } })
  expect(doctor.stdout).toContain(`${unnamed} does not say how texts are cut into tokens`)
})

// Hugging Face folders: what is read from a sound one, and the message for each way of not being one.
import { cpSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { Effect } from "effect"
import { describe, expect, test } from "vitest"
import { open } from "../../../../src/model/index.ts"
import {
  demo,
  opened,
  refused,
  safetensors,
  type Tensor,
  temporaryFolder,
  tinyConfig,
  tinyTensors,
  writeFolder,
} from "../fixtures.ts"

describe("a sound folder", () => {
  test("the demo base is described as its config.json says", async () => {
    const model = await opened(demo.base)
    expect(model).toMatchObject({
      name: "base",
      path: resolve(demo.base),
      format: "safetensors",
      context: 1024,
      bos: 0,
      bytes: 11_032_488,
    })
    expect(model.shape).toEqual({
      architecture: "llama",
      layers: 12,
      width: 192,
      heads: 6,
      kvHeads: 2,
      headDim: 32,
      ffn: 512,
      vocab: 4096,
      context: 1024,
      normEps: 1e-5,
      ropeTheta: 10_000,
      ropeDim: 32,
      ropePairs: "halves",
      ropeFactors: null,
    })
    expect(Array.from(model.ends)).toEqual([0])
  })

  test("tensors have GGUF's names, ggml's order of dimensions, and their place in the file", async () => {
    const { tensors } = await opened(demo.base)
    expect(tensors).toHaveLength(2 + 12 * 9)
    const file = resolve(demo.base, "model.safetensors")
    const headerEnd = 8 + Number(readFileSync(file).readBigUInt64LE(0))
    expect(tensors.find(({ name }) => name === "token_embd.weight")).toEqual({
      name: "token_embd.weight",
      file,
      offset: headerEnd, // its data_offsets begin at 0
      bytes: 4096 * 192 * 2,
      type: "bf16",
      shape: [192, 4096],
    })
    expect(tensors.find(({ name }) => name === "blk.3.ffn_down.weight")?.shape).toEqual([512, 192])
  })

  test("a head in the file is the model's, whatever the configuration says of tying", async () => {
    const tensors = [...tinyTensors("llama"), { name: "lm_head.weight", shape: [256, 8], type: "BF16" }]
    const names = async (tie_word_embeddings: boolean) => {
      const config = { ...tinyConfig("llama"), tie_word_embeddings }
      return (await opened(writeFolder({ config, tensors }))).tensors.map(({ name }) => name)
    }
    expect(await names(false)).toContain("output.weight")
    expect(await names(true)).toContain("output.weight")
  })

  test("shards are read by their index", async () => {
    const folder = writeFolder()
    const whole = await opened(folder)
    const tensors = tinyTensors("llama")
    const shards: Record<string, ReadonlyArray<Tensor>> = {
      "model-00001-of-00002.safetensors": tensors.slice(0, 5),
      "model-00002-of-00002.safetensors": tensors.slice(5),
    }
    writeShards(folder, shards)
    const sharded = await opened(folder)
    const names = (model: typeof whole) => model.tensors.map(({ name }) => name).toSorted()
    expect(names(sharded)).toEqual(names(whole))
    expect(new Set(sharded.tensors.map(({ file }) => file))).toEqual(
      new Set(Object.keys(shards).map((name) => join(folder, name))),
    )
  })

  // Divisors that transformers' _compute_llama3_parameters gives for Llama 3.2 1B.
  test("llama3 rope scaling, in rope_scaling or in rope_parameters", async () => {
    const scaling = { factor: 32, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 }
    const old = { rope_theta: 500_000, rope_scaling: { rope_type: "llama3", ...scaling } }
    const young = { rope_theta: undefined, rope_parameters: { rope_type: "llama3", rope_theta: 500_000, ...scaling } }
    for (const rope of [old, young]) {
      const config = { ...tinyConfig("llama"), ...rope, num_attention_heads: 1, num_key_value_heads: 1, head_dim: 64 }
      const attention = (name: string): Array<number> | undefined => {
        if (/[qkv]_proj/.test(name)) return [64, 8]
        return name.includes("o_proj") ? [8, 64] : undefined
      }
      const tensors = tinyTensors("llama").map((tensor) => ({
        ...tensor,
        shape: attention(tensor.name) ?? tensor.shape,
      }))
      const { shape } = await opened(writeFolder({ config, tensors }))
      expect(shape.ropeTheta).toBe(500_000)
      const factors = Array.from(shape.ropeFactors ?? [])
      expect(factors).toHaveLength(32)
      expect(factors.slice(0, 15)).toEqual(new Array(15).fill(1))
      expect(factors.slice(15, 18).map((factor) => factor.toFixed(4))).toEqual(["1.6513", "3.2923", "9.6667"])
      expect(factors.slice(18)).toEqual(new Array(14).fill(32))
    }
  })
})

describe("what config.json leaves out, or says twice", () => {
  const shaped = async (architecture: string, change: Record<string, unknown>) => {
    const config = { ...tinyConfig(architecture), ...change }
    return (await opened(writeFolder({ config }))).shape
  }

  test("is as the class of transformers has it", async () => {
    const none = { rms_norm_eps: undefined, rope_theta: null, max_position_embeddings: undefined }
    expect(await shaped("llama", none)).toMatchObject({ normEps: 1e-6, ropeTheta: 10_000, context: 2048 })
    expect(await shaped("qwen2", none)).toMatchObject({ normEps: 1e-6, ropeTheta: 10_000, context: 32_768 })
    const folder = writeFolder({ config: { ...tinyConfig("qwen3"), head_dim: undefined } })
    expect((await refused(folder)).message).toContain("the configuration calls for [8,512]") // 4 heads of 128
  })

  test("linear scaling divides every frequency", async () => {
    const shape = await shaped("llama", { rope_scaling: { type: "linear", factor: 2.5 } })
    expect(shape.ropeFactors).toEqual(Float32Array.of(2.5, 2.5))
  })

  test("rope_scaling hides rope_parameters, its base too", async () => {
    const rope_parameters = { rope_type: "linear", factor: 8, rope_theta: 500_000 }
    const both = { rope_parameters, rope_scaling: { rope_type: "linear", factor: 2 }, rope_theta: 20_000 }
    expect(await shaped("llama", both)).toMatchObject({ ropeFactors: Float32Array.of(2, 2), ropeTheta: 20_000 })
    for (const rope_scaling of [null, {}]) {
      const shape = await shaped("llama", { ...both, rope_scaling })
      expect(shape).toMatchObject({ ropeFactors: Float32Array.of(8, 8), ropeTheta: 500_000 })
    }
  })

  test.each([
    ["a window that is switched off", "qwen2", { sliding_window: 32, use_sliding_window: false }],
    ["one that no layer has", "qwen3", { sliding_window: 32, use_sliding_window: true, max_window_layers: 2 }],
    ["as long as the context", "qwen2", { sliding_window: 64, use_sliding_window: true, max_window_layers: 0 }],
    ["layers that all see everything", "qwen2", { use_sliding_window: true, layer_types: ["full_attention"] }],
    ["no window", "llama", { sliding_window: null }],
  ])("%s is no window", async (_, architecture, change) => {
    const shape = await shaped(architecture, { ...change, max_position_embeddings: 64 })
    expect(shape).toEqual((await opened(writeFolder({ config: tinyConfig(architecture) }))).shape)
  })

  test("a window that layers have is refused", async () => {
    const config = { ...tinyConfig("qwen2"), use_sliding_window: true, sliding_window: 32, max_window_layers: 1 }
    expect((await refused(writeFolder({ config }))).message).toContain("sliding_window is 32")
  })

  test("biases in the file that the configuration does not switch on are refused", async () => {
    const bias = { name: "model.layers.0.self_attn.q_proj.bias", shape: [16], type: "F32" }
    const folder = writeFolder({ tensors: [...tinyTensors("llama"), bias] })
    expect((await refused(folder)).message).toContain(`it has the tensor ${bias.name}, while attention_bias`)
  })
})

describe("a config.json that is refused", () => {
  const cases: ReadonlyArray<readonly [why: string, change: Record<string, unknown>, message: string]> = [
    ["unknown architecture", { model_type: "gemma2" }, 'its architecture is "gemma2"; Chorus runs llama, qwen2, qwen3'],
    [
      "other rope scaling",
      { rope_scaling: { type: "yarn", factor: 4 } },
      'rope scaling "yarn"; "linear", "llama3" and none',
    ],
    [
      "incomplete llama3 scaling",
      { rope_scaling: { rope_type: "llama3", factor: 8 } },
      "needs factor, low_freq_factor",
    ],
    ["another activation", { hidden_act: "gelu" }, 'hidden_act is "gelu"; "silu" is implemented'],
    ["sliding windows", { sliding_window: 32 }, "sliding_window is 32; sliding windows shorter than the context"],
    ["layers of another kind", { layer_types: ["full_attention", "linear_attention"] }, 'layer_types has "linear_att'],
    ["a rope for each kind of layer", { rope_parameters: { full_attention: {} } }, "rope scaling has full_attention"],
    ["a rope with what is not known", { rope_scaling: { type: "default", mrope_section: [1] } }, "has mrope_section"],
    ["a factor without a type", { rope_scaling: { factor: 4 } }, "rope scaling has the factor 4 and no type"],
    ["linear scaling without a factor", { rope_scaling: { type: "linear" } }, 'rope scaling "linear" needs a factor'],
    ["a factor of zero", { rope_scaling: { type: "linear", factor: 0 } }, "0 is among the divisors"],
    ["biases of attention", { attention_bias: true }, "attention_bias is true"],
    ["biases of the MLP", { mlp_bias: true }, "mlp_bias is true; false is implemented"],
    ["experts", { num_local_experts: 8 }, "num_local_experts is 8; 0 is implemented"],
    ["a scale of the logits", { logits_scaling: 8 }, "logits_scaling is 8; 1 is implemented"],
    ["softcapping", { final_logit_softcapping: 30 }, "final_logit_softcapping is 30; 0 is implemented"],
    ["attention both ways", { is_causal: false }, "is_causal is false; true is implemented"],
    ["a classifier", { architectures: ["LlamaForSequenceClassification"] }, "it is a LlamaForSequenceClassification"],
    ["quantised weights", { quantization_config: { quant_method: "awq" } }, "use the original weights or a GGUF file"],
    ["partial rotation", { partial_rotary_factor: 0.5 }, "partial_rotary_factor is 0.5; 1 is implemented"],
    [
      "partial rotation in the rope",
      { rope_scaling: { type: "default", partial_rotary_factor: 0.5 } },
      "factor is not 1",
    ],
    ["a width that is no number", { hidden_size: "8" }, '["hidden_size"]'],
    ["a missing field", { hidden_size: undefined }, '["hidden_size"]'],
    ["heads that do not divide", { num_key_value_heads: 3 }, "4 heads cannot share 3 KV heads evenly"],
    ["no layers", { num_hidden_layers: 0 }, "layers is 0"],
    ["an odd head", { head_dim: 3 }, "3 of a head's 3 values would be rotated"],
  ]
  test.each(cases)("%s", async (_, change, message) => {
    const folder = writeFolder({ config: { ...tinyConfig("llama"), ...change } })
    const error = await refused(folder)
    expect(error.message).toContain(message)
    expect(error.message).toContain(join(folder, "config.json"))
  })

  test("more layers than the file has tensors for ends at the first that is missing", async () => {
    const folder = writeFolder({ config: { ...tinyConfig("llama"), num_hidden_layers: 1_000 } })
    expect((await refused(folder)).message).toBe(`${folder}: tensor model.layers.2.input_layernorm.weight is missing`)
  })

  test("no JSON", async () => {
    const folder = writeFolder({ files: { "config.json": "{" } })
    expect((await refused(folder)).message).toContain(`${join(folder, "config.json")} is damaged: no valid JSON`)
  })
})

describe("tensors that are refused", () => {
  const change = (name: string, patch: Partial<Tensor>) =>
    tinyTensors("llama").map((tensor) => (tensor.name === name ? { ...tensor, ...patch } : tensor))
  const UP = "model.layers.1.mlp.up_proj.weight"

  test("missing", async () => {
    const folder = writeFolder({ tensors: tinyTensors("llama").filter(({ name }) => name !== UP) })
    const error = await refused(folder)
    expect(error._tag).toBe("TensorMismatch")
    expect(error.message).toBe(`${folder}: tensor ${UP} is missing`)
  })

  test("a bias that qwen2 needs", async () => {
    const tensors = tinyTensors("qwen2").filter(({ name }) => name !== "model.layers.0.self_attn.k_proj.bias")
    const folder = writeFolder({ config: tinyConfig("qwen2"), tensors })
    expect((await refused(folder)).message).toContain("tensor model.layers.0.self_attn.k_proj.bias is missing")
  })

  test("the head, where it is not tied", async () => {
    const folder = writeFolder({ config: { ...tinyConfig("llama"), tie_word_embeddings: false } })
    expect((await refused(folder)).message).toBe(
      `${folder}: tensor lm_head.weight is missing, and the head is not tied`,
    )
  })

  test("of another shape", async () => {
    const folder = writeFolder({ tensors: change(UP, { shape: [8, 12] }) })
    expect((await refused(folder)).message).toBe(
      `${join(folder, "model.safetensors")}: tensor ${UP} has shape [12,8], the configuration calls for [8,12]`,
    )
  })

  test("renamed", async () => {
    const folder = writeFolder({ tensors: change(UP, { name: "model.layers.1.mlp.upward.weight" }) })
    expect((await refused(folder)).message).toBe(`${folder}: tensor ${UP} is missing`)
  })

  test("one too many", async () => {
    const extra = { name: "model.layers.0.mlp.gate_proj.bias", shape: [12], type: "F32" }
    const folder = writeFolder({ tensors: [...tinyTensors("llama"), extra] })
    expect((await refused(folder)).message).toBe(
      `${join(folder, "model.safetensors")} is not supported: tensor model.layers.0.mlp.gate_proj.bias is not part of the llama architecture`,
    )
  })

  test("of a type that safetensors weights do not have here", async () => {
    const folder = writeFolder({ tensors: change(UP, { type: "I64" }) })
    expect((await refused(folder)).message).toContain(`tensor ${UP} is I64; F32, F16 and BF16 are read`)
  })
})

describe("a damaged safetensors file", () => {
  /** The demo draft with its weights changed. */
  const damaged = (damage: (file: string) => void): string => {
    const folder = temporaryFolder()
    cpSync(demo.draft, folder, { recursive: true })
    damage(join(folder, "model.safetensors"))
    return folder
  }
  const rewrite = (file: string, change: (bytes: Buffer) => void) => {
    const bytes = readFileSync(file)
    change(bytes)
    writeFileSync(file, bytes)
  }

  test("cut in the data", async () => {
    const folder = damaged((file) => truncateSync(file, 2_000_000))
    const { message } = await refused(folder)
    expect(message).toContain(`${join(folder, "model.safetensors")} is damaged: tensor model.`)
    expect(message).toMatch(/ends at byte \d+, the file has 2000000\. Fetch the file again\.$/)
  })

  test("cut by one byte", async () => {
    const folder = damaged((file) => truncateSync(file, 2_767_103))
    expect((await refused(folder)).message).toContain("ends at byte 2767104, the file has 2767103")
  })

  test("cut in the header", async () => {
    const folder = damaged((file) => truncateSync(file, 100))
    expect((await refused(folder)).message).toMatch(/its header would be \d+ bytes long, the file has 100/)
  })

  test("empty", async () => {
    const folder = damaged((file) => truncateSync(file, 0))
    expect((await refused(folder)).message).toContain("it has 0 bytes and ends inside the header's length")
  })

  test("a header of absurd length", async () => {
    const folder = damaged((file) => rewrite(file, (bytes) => bytes.writeBigUInt64LE(2n ** 63n, 0)))
    expect((await refused(folder)).message).toMatch(/its header would be \d{19} bytes long/)
  })

  test("a header that is no JSON", async () => {
    const folder = damaged((file) => rewrite(file, (bytes) => bytes.write("[[", 8)))
    expect((await refused(folder)).message).toContain("no valid JSON")
  })

  test("more at the end than the header speaks of", async () => {
    const folder = writeFolder({
      files: { "model.safetensors": Buffer.concat([safetensors(tinyTensors("llama")), Buffer.alloc(16)]) },
    })
    expect((await refused(folder)).message).toMatch(/its tensors end at byte (\d+), the file has \d+/)
  })

  const NORM = "model.norm.weight"
  const falsified: ReadonlyArray<readonly [why: string, offsets: [number, number], message: string]> = [
    ["tensors that overlap", [0, 32], "overlap"],
    ["offsets that are not the shape's", [4096, 4100], `tensor ${NORM} has 4 bytes, F32 [8] takes 32`],
    ["a negative offset", [-32, 0], "data_offsets"],
    ["an offset beyond the end", [2 ** 40, 2 ** 40 + 32], `tensor ${NORM} ends at byte`],
  ]
  test.each(falsified)("%s", async (_, data_offsets, message) => {
    const weights = safetensors(tinyTensors("llama"), { [NORM]: { dtype: "F32", shape: [8], data_offsets } })
    const folder = writeFolder({ files: { "model.safetensors": weights } })
    const error = await refused(folder)
    expect(error._tag).toBe("ModelCorrupt")
    expect(error.message).toContain(message)
    expect(error.message).toContain(join(folder, "model.safetensors"))
  })
})

describe("a folder of something else", () => {
  test.each([
    ["one GGUF", ["model.gguf"], "give the path of the GGUF file in it, model.gguf"],
    ["several", ["b.gguf", "a.gguf"], "give the path of one of the 2 GGUF files in it, such as a.gguf"],
    ["an adapter", ["adapter_config.json", "adapter_model.safetensors"], "it holds an adapter (adapter_config.json)"],
    ["another program's weights", ["pytorch_model.bin"], "its weights are in another program's format"],
  ])("%s, without and with a config.json", async (_, names, message) => {
    const folder = temporaryFolder()
    for (const name of names) writeFileSync(join(folder, name), "")
    expect((await refused(folder)).message).toContain(`there is no such file in the model's folder; ${message}`)
    writeFileSync(join(folder, "config.json"), JSON.stringify(tinyConfig("llama")))
    expect((await refused(folder)).message).toContain(`model.safetensors.index.json; ${message}`)
  })
})

describe("a folder with files missing", () => {
  test("nothing at the path", async () => {
    const path = join(temporaryFolder(), "nothing")
    expect((await refused(path)).message).toBe(`cannot read ${path}: there is nothing at this path`)
  })

  test("a link to itself, or no file at all", async () => {
    const loop = join(temporaryFolder(), "loop")
    symlinkSync(loop, loop)
    expect((await refused(loop)).message).toContain(`cannot read ${loop}: ELOOP`)
    expect((await refused("/dev/null")).message).toBe("cannot read /dev/null: it is not a regular file")
  })

  test.each(["config.json", "tokenizer.json"])("no %s", async (name) => {
    const folder = writeFolder()
    rmSync(join(folder, name))
    expect((await refused(folder)).message).toBe(
      `cannot read ${join(folder, name)}: there is no such file in the model's folder`,
    )
  })

  test("no weights", async () => {
    const folder = writeFolder()
    rmSync(join(folder, "model.safetensors"))
    expect((await refused(folder)).message).toBe(
      `cannot read ${folder}: it holds neither model.safetensors nor model.safetensors.index.json`,
    )
  })

  test("a shard that the index names", async () => {
    const folder = writeFolder()
    writeShards(folder, { "model-1.safetensors": tinyTensors("llama") })
    rmSync(join(folder, "model-1.safetensors"))
    expect((await refused(folder)).message).toContain(`cannot read ${join(folder, "model-1.safetensors")}: ENOENT`)
  })

  test("a tensor that the index places in a shard that lacks it", async () => {
    const folder = writeFolder()
    const tensors = tinyTensors("llama")
    writeShards(folder, { "model-1.safetensors": tensors })
    writeFileSync(join(folder, "model-1.safetensors"), safetensors(tensors.slice(1)))
    expect((await refused(folder)).message).toBe(
      `${join(folder, "model-1.safetensors")}: tensor model.embed_tokens.weight is missing`,
    )
  })

  test("an index that points out of the folder", async () => {
    const folder = writeFolder()
    writeShards(folder, {})
    const index = { weight_map: { "model.norm.weight": "../../etc/model.safetensors" } }
    writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify(index))
    expect((await refused(folder)).message).toContain("it points out of its folder: ../../etc/model.safetensors")
  })
})

test("a context longer than the model's is refused, a shorter one taken", async () => {
  expect((await refused(demo.base, { context: 2048 })).message).toBe(
    `${resolve(demo.base)}: a context of 2048 tokens was asked for, the model's is 1024. Ask for 1024 or fewer.`,
  )
  const model = await Effect.runPromise(open(demo.base, { context: 512 }))
  expect(model.context).toBe(512)
  expect(model.shape.context).toBe(1024)
})

/** Puts shards and their index in place of model.safetensors. */
const writeShards = (folder: string, shards: Readonly<Record<string, ReadonlyArray<Tensor>>>) => {
  rmSync(join(folder, "model.safetensors"))
  const weight_map: Record<string, string> = {}
  for (const [name, tensors] of Object.entries(shards)) {
    writeFileSync(join(folder, name), safetensors(tensors))
    for (const tensor of tensors) weight_map[tensor.name] = name
  }
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map }))
}

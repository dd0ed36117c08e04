// The tiny models of fixtures.ts computed by the definitions, in doubles and one token after the other.

/** By Hugging Face's names; a matrix is [outputs, inputs]. */
export type Weights = ReadonlyMap<string, Float32Array>

type Vector = ReadonlyArray<number>

const [WIDTH, HEADS, KV_HEADS, HEAD_DIM, LAYERS, NORM_EPS] = [8, 4, 2, 4, 2, 1e-6]

interface Parts {
  readonly biases: boolean // of q, k and v
  readonly headNorms: boolean // of each head's q and k, before they are rotated
}

const references: Readonly<Record<string, Parts>> = {
  llama: { biases: false, headNorms: false },
  qwen2: { biases: true, headNorms: false },
  qwen3: { biases: false, headNorms: true },
}

const dot = (a: Vector, b: ArrayLike<number>): number => a.reduce((sum, x, i) => sum + x * (b[i] ?? Number.NaN), 0)
const plus = (a: Vector, b: ArrayLike<number>): Vector => a.map((x, i) => x + (b[i] ?? Number.NaN))
const slices = (x: Vector, length: number): ReadonlyArray<Vector> =>
  Array.from({ length: x.length / length }, (_, i) => x.slice(i * length, (i + 1) * length))

const normed = (x: Vector, weight: Float32Array): Vector => {
  const rms = Math.sqrt(dot(x, x) / x.length + NORM_EPS)
  return x.map((value, i) => (value / rms) * (weight[i] ?? Number.NaN))
}

const times = (matrix: Float32Array, x: Vector): Vector =>
  Array.from({ length: matrix.length / x.length }, (_, o) => dot(x, matrix.subarray(o * x.length, (o + 1) * x.length)))

const rotated = (x: Vector, position: number, theta: number): Vector => {
  const half = x.length / 2
  const part = (i: number) => x[i] ?? Number.NaN
  return x.map((value, i) => {
    const angle = position / theta ** ((i % half) / half)
    return value * Math.cos(angle) + (i < half ? -part(i + half) : part(i - half)) * Math.sin(angle)
  })
}

/** Logits after each token, [tokens, vocabulary]. */
export const logitsOf = (
  architecture: string,
  weights: Weights,
  tokens: ReadonlyArray<number>,
  theta: number,
): ReadonlyArray<number> => {
  const parts = references[architecture]
  if (parts === undefined) throw new Error(`there is no reference for ${architecture}; add it above`)
  const weight = (name: string): Float32Array => {
    const found = weights.get(name)
    if (found === undefined) throw new Error(`no tensor ${name}`)
    return found
  }
  const kept = Array.from({ length: LAYERS }, () => ({ keys: [] as Vector[][], values: [] as Vector[][] }))

  const heads = (layer: string, of: "q" | "k" | "v", x: Vector): ReadonlyArray<Vector> => {
    const product = times(weight(`${layer}.self_attn.${of}_proj.weight`), x)
    const biased = parts.biases ? plus(product, weight(`${layer}.self_attn.${of}_proj.bias`)) : product
    const each = slices(biased, HEAD_DIM)
    return parts.headNorms && of !== "v"
      ? each.map((head) => normed(head, weight(`${layer}.self_attn.${of}_norm.weight`)))
      : each
  }

  const attention = (index: number, position: number, h: Vector): Vector => {
    const layer = `model.layers.${index}`
    const cache = kept[index] ?? { keys: [], values: [] }
    const x = normed(h, weight(`${layer}.input_layernorm.weight`))
    cache.keys.push(heads(layer, "k", x).map((head) => rotated(head, position, theta)))
    cache.values.push([...heads(layer, "v", x)])
    const mixed = heads(layer, "q", x).flatMap((head, i) => {
      const query = rotated(head, position, theta)
      const shared = Math.floor(i / (HEADS / KV_HEADS))
      const scores = cache.keys.map((keys) => Math.exp(dot(query, keys[shared] ?? []) / Math.sqrt(HEAD_DIM)))
      const total = scores.reduce((sum, score) => sum + score, 0)
      return query.map(
        (_, d) =>
          dot(
            scores,
            cache.values.map((values) => values[shared]?.[d] ?? Number.NaN),
          ) / total,
      )
    })
    return times(weight(`${layer}.self_attn.o_proj.weight`), mixed)
  }

  const mlp = (index: number, h: Vector): Vector => {
    const layer = `model.layers.${index}`
    const x = normed(h, weight(`${layer}.post_attention_layernorm.weight`))
    const up = times(weight(`${layer}.mlp.up_proj.weight`), x)
    const gate = times(weight(`${layer}.mlp.gate_proj.weight`), x)
    const inner = gate.map((value, i) => (value / (1 + Math.exp(-value))) * (up[i] ?? Number.NaN))
    return times(weight(`${layer}.mlp.down_proj.weight`), inner)
  }

  const embedding = weight("model.embed_tokens.weight")
  return tokens.flatMap((token, position) => {
    let h: Vector = Array.from(embedding.subarray(token * WIDTH, (token + 1) * WIDTH))
    for (let index = 0; index < LAYERS; index++) {
      h = plus(h, attention(index, position, h))
      h = plus(h, mlp(index, h))
    }
    return times(embedding, normed(h, weight("model.norm.weight")))
  })
}

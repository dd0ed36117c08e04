// The vocabulary of a GGUF file, from its metadata tokenizer.ggml.*.
import { ModelCorrupt, ModelUnsupported } from "../errors.ts"
import { type Metadata, MetadataArray, readGguf } from "../formats/gguf.ts"
import { preTokenizer, preTokenizerDefinition, preTokenizerNames } from "./preTokenizers.ts"
import { endsOf, type SpecialKind, type TokenizerDefinition, type Vocabulary } from "./vocabulary.ts"

// Kinds of tokens, as tokenizer.ggml.token_type numbers them.
const NORMAL = 1
const UNKNOWN = 2
const CONTROL = 3
const USER_DEFINED = 4
const UNUSED = 5

/** `rows` is the embedding's: no token may have an id beyond it. */
export const ggufVocabulary = (file: string, metadata: Metadata, rows: number): Vocabulary => {
  const kind = metadata.get("tokenizer.ggml.model")
  if (kind !== "gpt2") {
    const reason = `its tokenizer is "${String(kind)}"; byte-level BPE ("gpt2") is implemented`
    throw new ModelUnsupported({ file, reason })
  }
  const pre = preTokenizerOf(file, metadata)
  const texts = array(file, metadata, "tokenizer.ggml.tokens").strings()
  if (texts === null) throw new ModelCorrupt({ file, reason: "tokenizer.ggml.tokens does not hold strings" })
  const all = Array.from(texts)
  if (all.length > rows) {
    throw new ModelCorrupt({ file, reason: `it has ${all.length} tokens, its embedding ${rows} rows` })
  }
  const types = typesOf(file, metadata, all.length)
  const used = types.findLastIndex((type) => type !== UNUSED) + 1 // after it comes padding, up to the embedding's rows
  const tokens = all.slice(0, used).map((token, id) => (types[id] === UNUSED ? undefined : token))
  array(file, metadata, "tokenizer.ggml.merges") // is there
  const special = new Map<number, SpecialKind>()
  types.forEach((type, id) => {
    if (type === CONTROL || type === UNKNOWN) special.set(id, "control")
    if (type === USER_DEFINED) special.set(id, "user")
  })
  const id = (name: string) => tokenId(file, metadata, name, all.length)
  const bos = id("bos")
  const eos = id("eos")
  const added = (name: "bos" | "eos", token: number | null, byDefault: boolean) =>
    token !== null && (metadata.get(`tokenizer.ggml.add_${name}_token`) ?? byDefault) === true ? [token] : []
  return {
    file,
    tokens,
    special,
    bos,
    eos,
    prefix: added("bos", bos, pre.addBos ?? false),
    suffix: added("eos", eos, false),
    ends: endsOf(tokens, [eos, id("eot"), id("eom")]),
    // Read anew by the one process that encodes texts: the others would hold all of the metadata for it.
    definition: () =>
      definitionOf(file, array(file, readGguf(file).metadata, "tokenizer.ggml.merges"), tokens, special, pre),
  }
}

/** Without a name of the rules, texts are cut as llama.cpp cuts them then, which is wrong for most models. */
export const vocabularyWarnings = (file: string, metadata: Metadata): ReadonlyArray<string> =>
  metadata.has("tokenizer.ggml.pre")
    ? []
    : [
        `${file} does not say how texts are cut into tokens (tokenizer.ggml.pre is missing). They are cut as by llama.cpp's "default", which may not be the model's way: convert the model again with a newer llama.cpp`,
      ]

const preTokenizerOf = (file: string, metadata: Metadata) => {
  const name = String(metadata.get("tokenizer.ggml.pre") ?? "default")
  const pre = preTokenizer(name)
  if (pre === undefined) {
    const reason = `its pre-tokenizer is "${name}"; implemented are ${preTokenizerNames.join(", ")}`
    throw new ModelUnsupported({ file, reason })
  }
  return pre
}

const typesOf = (file: string, metadata: Metadata, tokens: number): ReadonlyArray<number> => {
  if (!metadata.has("tokenizer.ggml.token_type")) return new Array<number>(tokens).fill(NORMAL)
  const types = array(file, metadata, "tokenizer.ggml.token_type").numbers()
  if (types?.length !== tokens) {
    throw new ModelCorrupt({ file, reason: `it has ${tokens} tokens, and ${types?.length ?? 0} token types` })
  }
  return types
}

const definitionOf = (
  file: string,
  mergeArray: MetadataArray,
  tokens: ReadonlyArray<string | undefined>,
  special: ReadonlyMap<number, SpecialKind>,
  pre: ReturnType<typeof preTokenizerOf>,
): TokenizerDefinition => {
  const merges = mergeArray.strings()
  if (merges === null) throw new ModelCorrupt({ file, reason: "tokenizer.ggml.merges does not hold strings" })
  return {
    added_tokens: Array.from(special, ([id, kind]) => ({ id, content: tokens[id] ?? "", special: kind === "control" })),
    normalizer: null,
    pre_tokenizer: preTokenizerDefinition(pre),
    model: { vocab: numbered(tokens), merges, ignore_merges: pre.ignoreMerges ?? false },
  }
}

const numbered = function* (tokens: ReadonlyArray<string | undefined>): Iterable<readonly [string, number]> {
  for (const [id, token] of tokens.entries()) if (token !== undefined) yield [token, id]
}

/** Null for a token that the file does not name. */
const tokenId = (file: string, metadata: Metadata, name: string, tokens: number): number | null => {
  const key = `tokenizer.ggml.${name}_token_id`
  const id = metadata.get(key)
  if (id === undefined || id === 0xffffffff) return null
  if (typeof id !== "number" || id >= tokens) {
    throw new ModelCorrupt({ file, reason: `${key} is ${String(id)}, the vocabulary has ${tokens} tokens` })
  }
  return id
}

const array = (file: string, metadata: Metadata, key: string): MetadataArray => {
  const value = metadata.get(key)
  if (!(value instanceof MetadataArray)) throw new ModelCorrupt({ file, reason: `metadata array ${key} is missing` })
  return value
}

// The vocabulary of a Hugging Face folder: tokenizer.json, and what its neighbours say of bos and eos.
import { join } from "node:path"
import { Schema } from "effect"
import { ModelCorrupt, ModelUnreadable, ModelUnsupported } from "../errors.ts"
import { decodeJson, readJson } from "../formats/json.ts"
import type { Merge } from "./merges.ts"
import { checkTokenizer } from "./tokenizerCheck.ts"
import { endsOf, type MergingModel, type SpecialKind, type Vocabulary } from "./vocabulary.ts"

const Id = Schema.Int.pipe(Schema.check(Schema.isGreaterThanOrEqualTo(0)))
const optional = <S extends Schema.Top>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))
const Typed = Schema.Struct({ type: Schema.String })

const AddedToken = Schema.Struct({ id: Id, content: Schema.String, special: Schema.optionalKey(Schema.Boolean) })

/** Post-processors that put special tokens around a text. */
const Template = Schema.Struct({
  type: Schema.Literal("TemplateProcessing"),
  single: Schema.Array(
    Schema.Union([
      Schema.Struct({ SpecialToken: Schema.Struct({ id: Schema.String }) }),
      Schema.Struct({ Sequence: Schema.Unknown }),
    ]),
  ),
  special_tokens: Schema.Record(Schema.String, Schema.Struct({ ids: Schema.Array(Id) })),
})
const Pair = Schema.Tuple([Schema.String, Id])
const Classifier = Schema.Struct({
  type: Schema.Literals(["RobertaProcessing", "BertProcessing"]),
  cls: Pair,
  sep: Pair,
})
const Single = Schema.Union([Template, Classifier, Typed])
const PostProcessor = Schema.Union([
  Template,
  Classifier,
  Schema.Struct({ type: Schema.Literal("Sequence"), processors: Schema.Array(Single) }),
  Typed,
])

/** Large parts are looked at by hand: a schema would visit every merge. */
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null
const Vocab = Schema.declare(isObject)
const Merges = Schema.declare((value): value is ReadonlyArray<unknown> => Array.isArray(value))

const TokenizerJson = Schema.Struct({
  added_tokens: Schema.optionalKey(Schema.Array(AddedToken)),
  normalizer: Schema.optionalKey(Schema.Unknown),
  pre_tokenizer: Schema.optionalKey(Schema.Unknown),
  post_processor: optional(PostProcessor),
  decoder: optional(Typed),
  model: Schema.Struct({ type: Schema.optionalKey(Schema.String), vocab: Vocab, merges: Merges }),
})
type TokenizerJson = typeof TokenizerJson.Type

const TokenText = Schema.Union([Schema.String, Schema.Struct({ content: Schema.String })])
const TokenizerConfig = Schema.Struct({
  bos_token: optional(TokenText),
  eos_token: optional(TokenText),
  add_bos_token: optional(Schema.Boolean),
  add_eos_token: optional(Schema.Boolean),
})
type TokenizerConfig = typeof TokenizerConfig.Type
const Generation = Schema.Struct({
  bos_token_id: optional(Id),
  eos_token_id: optional(Schema.Union([Id, Schema.Array(Id)])),
})

/** `rows` is the embedding's: no token may have an id beyond it. */
export const huggingFaceVocabulary = (folder: string, rows: number): Vocabulary => {
  const file = join(folder, "tokenizer.json")
  const raw = readJson(file, Schema.Unknown)
  if (raw === null) throw new ModelUnreadable({ file, reason: "there is no such file in the model's folder" })
  const json = decodeJson(file, raw, TokenizerJson)
  if ((json.model.type ?? "BPE") !== "BPE" || json.decoder?.type !== "ByteLevel") {
    const kind = `${json.model.type ?? "BPE"} with decoder ${json.decoder?.type ?? "none"}`
    throw new ModelUnsupported({ file, reason: `its tokenizer is ${kind}; BPE with decoder ByteLevel is implemented` })
  }
  const added = json.added_tokens ?? []
  const definition = {
    added_tokens: rawAddedTokens(raw).map((token) => ({ ...token, special: isControl(token) })),
    normalizer: json.normalizer ?? null,
    pre_tokenizer: json.pre_tokenizer ?? null,
    model: isObject(raw) && isObject(raw.model) ? raw.model : json.model,
  }
  checkTokenizer(file, { ...definition, model: { ...definition.model, ...json.model } })
  const tokens = tokensOf(file, json.model.vocab, added, rows)
  const config = readJson(join(folder, "tokenizer_config.json"), TokenizerConfig) ?? {}
  const ids = readJson(join(folder, "config.json"), Generation) ?? {}
  const generation = readJson(join(folder, "generation_config.json"), Generation) ?? {}
  const find = (text: typeof TokenText.Type | null | undefined) => idOf(tokens, text)
  const around = aroundOf(json)
  const unknown = [...around.prefix, ...around.suffix].find((id) => tokens[id] === undefined)
  if (unknown !== undefined) {
    throw new ModelCorrupt({ file, reason: `its post_processor adds token ${unknown}, which the vocabulary lacks` })
  }
  const adds = around.prefix.length + around.suffix.length > 0
  const bos = find(config.bos_token) ?? around.prefix[0] ?? ids.bos_token_id ?? null
  const eos = find(config.eos_token) ?? [ids.eos_token_id].flat()[0] ?? null
  return {
    file,
    tokens,
    special: new Map(added.map((token): [number, SpecialKind] => [token.id, isControl(token) ? "control" : "user"])),
    bos,
    eos,
    ...(adds ? around : asConfigured(config, { bos, eos })),
    ends: endsOf(tokens, [eos, ids.eos_token_id, generation.eos_token_id].flat()),
    definition: () => ({ ...definition, model: modelOf(definition.model) }),
  }
}

/** The parts that merging looks at. */
const Merging = Schema.Struct({
  vocab: Schema.declare((value): value is Readonly<Record<string, number>> => isObject(value)),
  merges: Schema.declare((value): value is ReadonlyArray<Merge> => Array.isArray(value)),
  ignore_merges: Schema.optionalKey(Schema.Boolean),
  unk_token: Schema.optionalKey(Schema.NullOr(Schema.String)),
  fuse_unk: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
})

const modelOf = (json: object): MergingModel => {
  const model = Schema.decodeUnknownSync(Merging)(json)
  return { ...model, vocab: Object.entries(model.vocab) }
}

/** With the fields that only the encoder knows (lstrip, normalized, ...). */
const rawAddedTokens = (raw: unknown): ReadonlyArray<typeof AddedToken.Type> =>
  isObject(raw) && Array.isArray(raw.added_tokens) ? raw.added_tokens : []

const tokensOf = (
  file: string,
  vocab: Readonly<Record<string, unknown>>,
  added: ReadonlyArray<typeof AddedToken.Type>,
  rows: number,
): ReadonlyArray<string | undefined> => {
  const tokens: Array<string | undefined> = []
  const put = (token: string, id: unknown) => {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= rows) {
      const shown = typeof id === "number" ? id : `of type ${typeof id}` // what is nested deep has no text
      const reason = `token ${JSON.stringify(token)} has the id ${shown}, the embedding has ${rows} rows`
      throw new ModelCorrupt({ file, reason })
    }
    tokens[id] = token
  }
  for (const token of Object.keys(vocab)) put(token, vocab[token])
  for (const { id, content } of added) put(content, id)
  return Array.from(tokens) // without holes
}

/** The id of a token by its text, as tokenizer_config.json names it. */
const idOf = (tokens: ReadonlyArray<string | undefined>, text: typeof TokenText.Type | null | undefined) => {
  if (text === null || text === undefined) return null
  const id = tokens.indexOf(typeof text === "string" ? text : text.content)
  return id < 0 ? null : id
}

/** Some files call "<|fim_prefix|>" a fixed text. GGUF's converter goes by the look of it, and so do we: one model, one meaning. */
const isControl = ({ content, special }: typeof AddedToken.Type): boolean =>
  special === true || /^<\|.*\|>$/s.test(content)

type Around = Pick<Vocabulary, "prefix" | "suffix">

/** Where the post-processor adds nothing. Where it does, transformers goes by it alone. */
const asConfigured = (
  { add_bos_token, add_eos_token }: TokenizerConfig,
  { bos, eos }: { readonly bos: number | null; readonly eos: number | null },
): Around => ({
  prefix: add_bos_token === true && bos !== null ? [bos] : [],
  suffix: add_eos_token === true && eos !== null ? [eos] : [],
})

/** The tokens that the post-processor puts around every text. */
const aroundOf = ({ post_processor }: TokenizerJson): Around => {
  const nothing: Around = { prefix: [], suffix: [] }
  if (!post_processor) return nothing
  const all = "processors" in post_processor ? post_processor.processors : [post_processor]
  return all.reduce(({ prefix, suffix }, processor) => {
    const own = ofProcessor(processor)
    return { prefix: [...own.prefix, ...prefix], suffix: [...suffix, ...own.suffix] }
  }, nothing)
}

const ofProcessor = (processor: typeof Single.Type): Around => {
  if ("cls" in processor) return { prefix: [processor.cls[1]], suffix: [processor.sep[1]] }
  if (!("single" in processor)) return { prefix: [], suffix: [] }
  const { single, special_tokens } = processor
  const text = single.findIndex((part) => "Sequence" in part)
  const idsOf = (parts: typeof single) =>
    parts.flatMap((part) => ("SpecialToken" in part ? (special_tokens[part.SpecialToken.id]?.ids ?? []) : []))
  return { prefix: idsOf(single.slice(0, text)), suffix: idsOf(single.slice(text + 1)) }
}

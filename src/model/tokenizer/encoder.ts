// Text to ids: added tokens, normalizer, pre-tokenizer, merges.
import { Schema } from "effect"
import { sectionsBy } from "./addedTokens.ts"
import { byteLevelAlphabet } from "./byteLevel.ts"
import { normalizerOf, preTokenizerOf } from "./components.ts"
import { mergingBy } from "./library.ts"
import type { TokenizerDefinition } from "./vocabulary.ts"

export type Encode = (text: string) => ReadonlyArray<number>

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null

/** The parts that merging looks at; the large ones are looked into by hand. */
const Model = Schema.Struct({
  vocab: Schema.declare((value): value is Readonly<Record<string, number>> => isObject(value)),
  merges: Schema.declare((value): value is Array<string> | Array<[string, string]> => Array.isArray(value)),
  ignore_merges: Schema.optionalKey(Schema.Boolean),
  unk_token: Schema.optionalKey(Schema.NullOr(Schema.String)),
  fuse_unk: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
})

/** Two encoders over one merge table; the plain one does not know the control tokens. */
export const encodersOf = (definition: TokenizerDefinition): { readonly special: Encode; readonly plain: Encode } => {
  const merge = mergingOf(Schema.decodeUnknownSync(Model)(definition.model))
  const normalize = normalizerOf(definition.normalizer)
  const cut = preTokenizerOf(definition.pre_tokenizer)
  const encoder = (tokens: TokenizerDefinition["added_tokens"]): Encode => {
    const sections = sectionsBy(tokens, normalize)
    return (text) =>
      sections(text).flatMap((section) => (typeof section === "number" ? [section] : cut(section).flatMap(merge)))
  }
  return {
    special: encoder(definition.added_tokens),
    plain: encoder(definition.added_tokens.filter(({ special }) => special !== true)),
  }
}

/** The ids of a piece in the byte-level alphabet. */
const mergingOf = (model: typeof Model.Type): Encode => {
  const { vocab, merges, ignore_merges: whole = false } = model
  const ids = new Map(Object.entries(vocab))
  const bpe = mergingBy(merges)
  const unknown = ids.get(model.unk_token ?? "")
  const merged: Encode = (piece) => {
    const own = whole ? ids.get(piece) : undefined
    return own === undefined ? bpe(piece).flatMap((token) => ids.get(token) ?? inCharacters(ids, token)) : [own]
  }
  if (byteLevelAlphabet.every((character) => ids.has(character))) return merged
  return (piece) =>
    runsOf(piece, ids, unknown !== undefined).flatMap(({ text, known }) => {
      if (known) return merged(text)
      const times = model.fuse_unk === true ? 1 : Array.from(text).length
      return unknown === undefined ? [] : new Array<number>(times).fill(unknown)
    })
}

/** llama.cpp's way for a merge that makes no token; a tokenizer.json that has one is refused. */
const inCharacters = (ids: ReadonlyMap<string, number>, token: string): ReadonlyArray<number> =>
  Array.from(token).flatMap((character) => ids.get(character) ?? [])

/** A piece in runs of characters that the vocabulary has, and of others; these are left out where no token stands for them. */
const runsOf = (piece: string, ids: ReadonlyMap<string, number>, keepsOthers: boolean) => {
  const runs: Array<{ text: string; readonly known: boolean }> = []
  for (const character of piece) {
    const known = ids.has(character)
    if (!known && !keepsOthers) continue
    const last = runs.at(-1)
    if (last?.known === known) last.text += character
    else runs.push({ text: character, known })
  }
  return runs
}

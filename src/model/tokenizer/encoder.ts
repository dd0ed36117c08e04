// Text to ids: added tokens, normalizer, pre-tokenizer, merges.
import { sectionsBy } from "./addedTokens.ts"
import { byteLevelAlphabet } from "./byteLevel.ts"
import { normalizerOf, preTokenizerOf } from "./components.ts"
import { Merges } from "./merges.ts"
import { Symbols } from "./symbols.ts"
import type { MergingModel, TokenizerDefinition } from "./vocabulary.ts"

export type Encode = (text: string) => ReadonlyArray<number>

/** Short pieces come again and again. So many are remembered, up to this length; then all are forgotten. */
const REMEMBERED = 10_000
const SHORT = 256

/** Two encoders over one merge table; the plain one does not know the control tokens. */
export const encodersOf = (definition: TokenizerDefinition): { readonly special: Encode; readonly plain: Encode } => {
  const merge = mergingOf(definition.model)
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
const mergingOf = (model: MergingModel): Encode => {
  const { ids, merged } = mergedBy(model)
  const unknown = ids(model.unk_token ?? "")
  if (byteLevelAlphabet.every((character) => ids(character) !== undefined)) return merged
  return (piece) =>
    runsOf(piece, ids, unknown !== undefined).flatMap(({ text, known }) => {
      if (known) return merged(text)
      const times = model.fuse_unk === true ? 1 : Array.from(text).length
      return unknown === undefined ? [] : new Array<number>(times).fill(unknown)
    })
}

type Ids = (token: string) => number | undefined

/** The vocabulary's ids, and what its merges make of a piece. */
const mergedBy = ({ vocab, merges, ignore_merges: whole = false }: MergingModel) => {
  const symbols = new Symbols()
  const idOfSymbol: Array<number> = [] // those that come after the vocabulary are merges that make no token
  for (const [token, id] of vocab) idOfSymbol[symbols.add(token)] = id
  const ids: Ids = (token) => idOfSymbol[symbols.find(token)]
  const table = new Merges(symbols, merges)
  const join: Encode = (piece) => {
    const joined = Int32Array.from(Array.from(piece, (character) => symbols.find(character)))
    return Array.from(joined.subarray(0, table.join(joined))).flatMap(
      (symbol) => idOfSymbol[symbol] ?? inCharacters(ids, symbols.text(symbol)),
    )
  }
  const remembered = new Map<string, ReadonlyArray<number>>()
  const merged: Encode = (piece) => {
    const known = remembered.get(piece)
    if (known !== undefined) return known
    const own = whole ? ids(piece) : undefined
    const made = own === undefined ? join(piece) : [own]
    if (piece.length >= SHORT) return made
    if (remembered.size >= REMEMBERED) remembered.clear()
    remembered.set(piece, made)
    return made
  }
  return { ids, merged }
}

/** llama.cpp's way for a merge that makes no token; a tokenizer.json that has one is refused. */
const inCharacters = (ids: Ids, token: string): ReadonlyArray<number> =>
  Array.from(token).flatMap((character) => ids(character) ?? [])

/** A piece in runs of characters that the vocabulary has, and of others; these are left out where no token stands for them. */
const runsOf = (piece: string, ids: Ids, keepsOthers: boolean) => {
  const runs: Array<{ text: string; readonly known: boolean }> = []
  for (const character of piece) {
    const known = ids(character) !== undefined
    if (!known && !keepsOthers) continue
    const last = runs.at(-1)
    if (last?.known === known) last.text += character
    else runs.push({ text: character, known })
  }
  return runs
}

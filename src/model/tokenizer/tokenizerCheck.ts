// What a tokenizer.json asks for and is not implemented is refused when the model is opened, by its name, rather than when
// the first text comes.
import { ModelCorrupt, ModelUnsupported } from "../errors.ts"
import { shown } from "../formats/json.ts"
import { byteLevelAlphabet } from "./byteLevel.ts"
import { normalizerOf, preTokenizerOf, UnsupportedComponent } from "./components.ts"
import type { AddedToken } from "./vocabulary.ts"

interface TokenizerJson {
  readonly added_tokens: ReadonlyArray<AddedToken>
  readonly normalizer: unknown
  readonly pre_tokenizer: unknown
  readonly model: Readonly<Record<string, unknown>> & {
    readonly vocab: Readonly<Record<string, unknown>>
    readonly merges: ReadonlyArray<unknown>
  }
}

export const checkTokenizer = (file: string, json: TokenizerJson): void => {
  try {
    normalizerOf(json.normalizer)
    preTokenizerOf(json.pre_tokenizer)
  } catch (error) {
    if (!(error instanceof UnsupportedComponent)) throw error
    throw new ModelUnsupported({ file, reason: error.message })
  }
  checkModel(file, json.model)
  checkAdded(file, json)
  checkMerges(file, json.model)
}

/** Settings of the merging that change the tokens, and byte-level models do not use. */
const checkModel = (file: string, model: TokenizerJson["model"]): void => {
  const neutral: ReadonlyArray<readonly [key: string, value: unknown]> = [
    ["dropout", 0],
    ["continuing_subword_prefix", ""],
    ["end_of_word_suffix", ""],
  ]
  for (const [key, value] of neutral) {
    const given = model[key]
    if (given === undefined || given === null || given === value) continue
    throw new ModelUnsupported({
      file,
      reason: `its model's ${key} is ${shown(given)}, which is not implemented`,
    })
  }
  const missing = byteLevelAlphabet.find((character) => !Object.hasOwn(model.vocab, character))
  if (model.byte_fallback === true && missing !== undefined) {
    const reason = `its model's byte_fallback is true, and the vocabulary lacks "${missing}"; that is not implemented`
    throw new ModelUnsupported({ file, reason })
  }
}

const checkAdded = (file: string, { added_tokens, model: { vocab } }: TokenizerJson): void => {
  for (const { id, content } of added_tokens) {
    if (!Object.hasOwn(vocab, content) || vocab[content] === id) continue
    const reason = `the added token ${shown(content)} has the id ${id}, the vocabulary gives it ${shown(vocab[content])}`
    throw new ModelUnsupported({ file, reason })
  }
}

/** A merge that makes no token would lose its text. */
const checkMerges = (file: string, { vocab, merges }: TokenizerJson["model"]): void => {
  const corrupt = (reason: string) => new ModelCorrupt({ file, reason })
  for (const merge of merges) {
    const parts: unknown = typeof merge === "string" ? merge.split(" ", 3) : merge
    const [left, right, more] = Array.isArray(parts) ? parts : []
    if (typeof left !== "string" || typeof right !== "string" || more !== undefined) {
      throw corrupt(`its merge ${shown(merge)} is no pair of tokens`)
    }
    if (Object.hasOwn(vocab, left + right)) continue
    throw corrupt(`a merge of ${shown(left)} and ${shown(right)} makes a token that the vocabulary lacks`)
  }
}

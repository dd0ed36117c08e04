// What the tokens are: the text behind each id, which of them are control tokens, and which end a generation. Made from
// tokenizer.json or from GGUF's metadata; both are byte-level BPE.
import type { Merge } from "./merges.ts"

/** A token that merges do not make: control ("<|im_end|>") marks structure and is no text, user is a fixed text. */
export type SpecialKind = "control" | "user"

export interface Vocabulary {
  readonly file: string
  readonly tokens: ReadonlyArray<string | undefined> // by id; the normal ones in the byte-level alphabet
  readonly special: ReadonlyMap<number, SpecialKind>
  readonly bos: number | null
  readonly eos: number | null
  readonly prefix: ReadonlyArray<number> // what the files put before every text, as bos
  readonly suffix: ReadonlyArray<number> // and after it, as eos
  readonly ends: ReadonlySet<number> // each of these ends a generation
  readonly definition: () => TokenizerDefinition // made when text is first encoded
}

export interface AddedToken {
  readonly id: number
  readonly content: string
  readonly special?: boolean
  readonly lstrip?: unknown // whether it takes the white space before it
  readonly rstrip?: unknown // and behind it
  readonly single_word?: unknown // whether it is found only where no letter or digit is beside it
  readonly normalized?: unknown // whether it is looked for in the normalized text
}

/** The parts of a tokenizer.json that an encoder is built from. */
export interface TokenizerDefinition {
  readonly added_tokens: ReadonlyArray<AddedToken>
  readonly normalizer: unknown
  readonly pre_tokenizer: unknown
  readonly model: MergingModel
}

/** Its large parts are read once, in order; a file's need not be in memory as a whole. */
export interface MergingModel {
  readonly vocab: Iterable<readonly [token: string, id: number]>
  readonly merges: Iterable<Merge> // by rank
  readonly ignore_merges?: boolean // for pieces that are a token
  readonly unk_token?: string | null
  readonly fuse_unk?: boolean | null
}

/** Ends of a turn or a text that models use without naming them in their configuration; llama.cpp stops at the same. */
const END_TEXTS = new Set([
  ...["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<|end_of_text|>"],
  ...[
    "<EOT>",
    "_<EOT>",
    "<end_of_utterance>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|fim_repo|>",
    "<|file_sep|>",
    "<reponame>",
  ],
])

/** The ends that the files name, and those known by their text. */
export const endsOf = (
  tokens: ReadonlyArray<string | undefined>,
  named: ReadonlyArray<number | null | undefined>,
): ReadonlySet<number> => {
  const ends = new Set(named.filter((id) => id !== null && id !== undefined))
  tokens.forEach((token, id) => {
    if (token !== undefined && END_TEXTS.has(token)) ends.add(id)
  })
  return ends
}

// What is taken from @huggingface/tokenizers: its merging, and its translation of Oniguruma's expressions to JavaScript's.
// Its classes for them have no types that a module like this one can import, so they are reached through its Tokenizer.
import { Tokenizer } from "@huggingface/tokenizers"

interface Built {
  readonly model: { readonly bpe: (piece: string) => Array<string> }
  readonly pre_tokenizer: { readonly pattern: RegExp | null }
}

interface Parts {
  readonly merges?: ReadonlyArray<string> | ReadonlyArray<readonly [string, string]>
  readonly expression?: string
}

const built = ({ merges = [], expression = "" }: Parts): Built =>
  new Tokenizer(
    {
      ...{ added_tokens: [], normalizer: null, post_processor: null, decoder: null },
      pre_tokenizer: { type: "Split", pattern: { Regex: expression }, behavior: "Isolated", invert: false },
      model: { type: "BPE", vocab: {}, merges },
    },
    {},
  )

/** Cuts a piece into the tokens that merges make of its characters. */
export const mergingBy = (merges: NonNullable<Parts["merges"]>): ((piece: string) => Array<string>) => {
  const { model } = built({ merges })
  return (piece) => model.bpe(piece)
}

/** Throws a SyntaxError where there is no such expression in JavaScript. */
export const translated = (expression: string): RegExp => {
  const { pattern } = built({ expression }).pre_tokenizer
  if (pattern === null) throw new SyntaxError(`${expression} is no expression`)
  return pattern
}

// What is taken from @huggingface/tokenizers: its translation of Oniguruma's expressions to JavaScript's. Its class for it
// has no types that a module like this one can import, so it is reached through its Tokenizer.
import { Tokenizer } from "@huggingface/tokenizers"

interface Built {
  readonly pre_tokenizer: { readonly pattern: RegExp | null }
}

const built = (expression: string): Built =>
  new Tokenizer(
    {
      ...{ added_tokens: [], normalizer: null, post_processor: null, decoder: null },
      pre_tokenizer: { type: "Split", pattern: { Regex: expression }, behavior: "Isolated", invert: false },
      model: { type: "BPE", vocab: {}, merges: [] },
    },
    {},
  )

/** Throws a SyntaxError where there is no such expression in JavaScript. */
export const translated = (expression: string): RegExp => {
  const { pattern } = built(expression).pre_tokenizer
  if (pattern === null) throw new SyntaxError(`${expression} is no expression`)
  return pattern
}

// How a text is cut before merging, for GGUF files, which store a name instead of the rules. The expressions are
// llama.cpp's (src/llama-vocab.cpp), in the form in which the tokenizers that the names stand for state them.

const CONTRACTIONS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
const LETTERS = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
const REST = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
const LLAMA3 = `${CONTRACTIONS}|${LETTERS}|\\p{N}{1,3}|${REST}`
const QWEN2 = `${CONTRACTIONS}|${LETTERS}|\\p{N}|${REST}`

interface PreTokenizer {
  readonly expressions: ReadonlyArray<string> // each cuts what the one before left
  readonly ignoreMerges?: boolean // a piece that is a token stays whole
  readonly addBos?: boolean // unless the file says otherwise
}

const preTokenizers: ReadonlyMap<string, PreTokenizer> = new Map<string, PreTokenizer>([
  ["default", { expressions: ["[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"] }],
  ["gpt-2", { expressions: [GPT2] }],
  ["smollm", { expressions: ["\\p{N}", GPT2] }],
  ["starcoder", { expressions: ["\\p{N}", GPT2] }],
  ["llama-bpe", { expressions: [LLAMA3], ignoreMerges: true, addBos: true }],
  ["llama3", { expressions: [LLAMA3], ignoreMerges: true, addBos: true }],
  ["llama-v3", { expressions: [LLAMA3], ignoreMerges: true, addBos: true }],
  ["qwen2", { expressions: [QWEN2] }],
  ["deepseek-r1-qwen", { expressions: [QWEN2] }],
])

export const preTokenizerNames = Array.from(preTokenizers.keys())

/** Undefined for a name that is not known. */
export const preTokenizer = (name: string): PreTokenizer | undefined => preTokenizers.get(name)

/** As tokenizer.json writes it: cut by each expression in turn, then to the byte-level alphabet. */
export const preTokenizerDefinition = ({ expressions }: PreTokenizer): object => ({
  type: "Sequence",
  pretokenizers: [
    ...expressions.map((Regex) => ({ type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false })),
    { type: "ByteLevel", add_prefix_space: false, use_regex: false },
  ],
})

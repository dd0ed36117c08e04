// Text to tokens and back.

import { readFileSync } from "node:fs"
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { Detokenizer, detokenize, type Model, type Tokenizer } from "../../../../src/model/index.ts"
import {
  byteAlphabet,
  demo,
  type GgufValue,
  opened,
  refused,
  tinyGgufTensors,
  tinyTokenizer,
  writeFolder,
  writeGguf,
} from "../fixtures.ts"

const text = fc.string({ unit: "binary", maxLength: 60 })
const wellFormed = text.filter((value) => value.isWellFormed())

/** Texts that look like the models' own: words, numbers, spaces, punctuation, other scripts, names of control tokens. */
const prose = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        " ",
        "  ",
        "\n",
        "\t",
        "'s",
        "'LL",
        "foo",
        "Bar",
        "12345",
        "-->",
        "{",
        "名前",
        "naïve",
        "🚀",
        "é",
      ),
      fc.constantFrom("<|endoftext|>", "\u00a0", "\r\n", "٣", "_"),
      fc.string({ maxLength: 6 }),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(""))

/** The demo's tokenizer, and the same vocabulary by way of GGUF's metadata. */
const demoTwice = async () => {
  const json = JSON.parse(readFileSync(`${demo.base}/tokenizer.json`, "utf8"))
  const tokens: Array<string> = []
  for (const [token, id] of Object.entries<number>(json.model.vocab)) tokens[id] = token
  const merges = json.model.merges.map((merge: string | [string, string]) => [merge].flat().join(" "))
  const types = tokens.map((_, id) => (id < 3 ? 3 : 1))
  const metadata = {
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.merges": merges,
    "tokenizer.ggml.token_type": types,
  }
  return { ours: await opened(demo.base), asGguf: await opened(withVocabulary(metadata, tokens.length)) }
}

/** A tiny GGUF whose embedding has as many rows as there are tokens. */
const withVocabulary = (metadata: Record<string, GgufValue>, rows: number): string => {
  return writeGguf({ metadata, tensors: tinyGgufTensors("llama", rows) })
}

describe("a vocabulary in GGUF's metadata", () => {
  test("gives the same tokens as the same one in tokenizer.json", async () => {
    const { ours, asGguf } = await demoTwice()
    expect(asGguf.tokenizer.vocabulary.tokens).toEqual(ours.tokenizer.vocabulary.tokens)
    fc.assert(
      fc.property(prose, fc.boolean(), (value, special) => {
        expect(asGguf.tokenizer.encode(value, { special })).toEqual(ours.tokenizer.encode(value, { special }))
      }),
    )
  })

  test("llama-bpe: digits in threes, a piece that is a token stays whole, bos before the text", async () => {
    const tokens = [...byteAlphabet(), "12", "123", "bc", "abc", "<|begin_of_text|>"]
    const metadata = {
      "tokenizer.ggml.pre": "llama-bpe",
      "tokenizer.ggml.tokens": tokens,
      "tokenizer.ggml.merges": ["1 2", "12 3", "b c"],
      "tokenizer.ggml.token_type": tokens.map((_, id) => (id === 260 ? 3 : 1)),
      "tokenizer.ggml.bos_token_id": 260,
    }
    const { tokenizer } = await opened(withVocabulary(metadata, 261))
    expect(tokenizer.encode("1234 abc")).toEqual(Int32Array.of(260, 257, 52, 32, 97, 258))
    expect(tokenizer.encode("abc")).toEqual(Int32Array.of(260, 259)) // no merge makes it
    expect(tokenizer.encode("<|begin_of_text|>abc")).toEqual(Int32Array.of(260, 260, 259)) // as with llama.cpp
    expect(tokenizer.encode("abc", { addSpecialTokens: false })).toEqual(Int32Array.of(259))
    const quiet = await opened(withVocabulary({ ...metadata, "tokenizer.ggml.add_bos_token": false }, 261))
    expect(quiet.tokenizer.encode("abc")).toEqual(Int32Array.of(259))
    const ended = { ...metadata, "tokenizer.ggml.eos_token_id": 256, "tokenizer.ggml.add_eos_token": true }
    expect((await opened(withVocabulary(ended, 261))).tokenizer.encode("abc")).toEqual(Int32Array.of(260, 259, 256))
  })

  test.each([
    ["qwen2", "12", [49, 50]],
    ["smollm", "12", [49, 50]],
    ["gpt-2", "12", [256]],
    ["default", "12", [256]],
    ["llama-bpe", "12", [256]],
    ["qwen2", "I'LL", [73, 257]],
    ["gpt-2", "I'LL", [73, 39, 76, 76]],
  ])("%s cuts %j as it should", async (pre, value, expected) => {
    const metadata = {
      "tokenizer.ggml.pre": pre,
      "tokenizer.ggml.tokens": [...byteAlphabet(), "12", "'LL", "'L"],
      "tokenizer.ggml.merges": ["1 2", "' L", "'L L"],
    }
    const { tokenizer } = await opened(withVocabulary(metadata, 259))
    expect(Array.from(tokenizer.encode(value))).toEqual(expected)
  })

  test("words that JavaScript's objects know are words", async () => {
    const words = ["__proto__", "constructor", "toString"]
    const metadata = {
      "tokenizer.ggml.pre": "llama-bpe",
      "tokenizer.ggml.tokens": [...byteAlphabet(), "__proto__", "constructor", "toString"],
    }
    const { tokenizer } = await opened(withVocabulary(metadata, 259))
    expect(Array.from(tokenizer.encode("constructor"))).toEqual([257])
    for (const word of words) expect(detokenize(tokenizer, tokenizer.encode(word))).toBe(word)
  })

  test("padding is no part of it", async () => {
    const metadata = {
      "tokenizer.ggml.tokens": [...byteAlphabet(), "[PAD256]", "[PAD257]"],
      "tokenizer.ggml.token_type": [...new Array<number>(256).fill(1), 5, 5],
    }
    const { tokenizer } = await opened(withVocabulary(metadata, 258))
    expect(tokenizer.size).toBe(256)
    expect(tokenizer.bytes(257)).toHaveLength(0)
  })
})

describe("a vocabulary in tokenizer.json", () => {
  const BOS = { id: 250, content: "<s>", special: true }

  test("begins with what its post-processor puts there", async () => {
    const template = {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: { "<s>": { id: "<s>", ids: [250], tokens: ["<s>"] } },
    }
    for (const post_processor of [template, { type: "Sequence", processors: [{ type: "ByteLevel" }, template] }]) {
      const { tokenizer } = await opened(
        writeFolder({ tokenizer: { ...tinyTokenizer(), added_tokens: [BOS], post_processor } }),
      )
      expect(Array.from(tokenizer.encode("a"))).toEqual([250, 97])
    }
  })

  test("or with what tokenizer_config.json says", async () => {
    const tokenizer = { ...tinyTokenizer(), added_tokens: [BOS] }
    const config = (add_bos_token: boolean) => JSON.stringify({ bos_token: { content: "<s>" }, add_bos_token })
    const encoded = async (add: boolean) => {
      const folder = writeFolder({ tokenizer, files: { "tokenizer_config.json": config(add) } })
      return Array.from((await opened(folder)).tokenizer.encode("a"))
    }
    expect(await encoded(true)).toEqual([250, 97])
    expect(await encoded(false)).toEqual([97])
    const both = JSON.stringify({ bos_token: "<s>", eos_token: "<s>", add_bos_token: true, add_eos_token: true })
    const folder = writeFolder({ tokenizer, files: { "tokenizer_config.json": both } })
    expect(Array.from((await opened(folder)).tokenizer.encode("a"))).toEqual([250, 97, 250])
  })

  test("the post-processor counts where tokenizer_config.json contradicts it, as in transformers", async () => {
    const post_processor = { type: "RobertaProcessing", cls: ["<s>", 250], sep: ["</s>", 251] }
    const added_tokens = [BOS, { id: 251, content: "</s>", special: true }]
    const encoded = async (config: object, addSpecialTokens?: boolean) => {
      const names = { bos_token: "<s>", eos_token: "</s>" }
      const files = { "tokenizer_config.json": JSON.stringify({ ...names, ...config }) }
      const folder = writeFolder({ tokenizer: { ...tinyTokenizer(), added_tokens, post_processor }, files })
      const { tokenizer } = await opened(folder)
      return Array.from(tokenizer.encode("a", addSpecialTokens === undefined ? {} : { addSpecialTokens }))
    }
    expect(await encoded({})).toEqual([250, 97, 251])
    expect(await encoded({}, false)).toEqual([97])
    expect(await encoded({ add_bos_token: false })).toEqual([250, 97, 251])
    expect(await encoded({ add_eos_token: true }, false)).toEqual([97])
  })

  test("what looks like a control token is one, whatever the file calls it, as in a GGUF made of it", async () => {
    const added_tokens = [
      { id: 250, content: "<|fim_prefix|>", special: false },
      { id: 251, content: "<tool_call>", special: false },
    ]
    const { tokenizer } = await opened(writeFolder({ tokenizer: { ...tinyTokenizer(), added_tokens } }))
    expect([tokenizer.isControl(250), tokenizer.isControl(251)]).toEqual([true, false])
    expect(Array.from(tokenizer.encode("<|fim_prefix|><tool_call>"))).toEqual([250, 251])
    expect(Array.from(tokenizer.encode("<|fim_prefix|><tool_call>", { special: false })).slice(-2)).toEqual([62, 251])
  })

  test("ends where its files say, and at the usual ends of a turn", async () => {
    const added = [
      { id: 251, content: "<|im_end|>", special: true },
      { id: 252, content: "<end>", special: true },
    ]
    const folder = writeFolder({
      tokenizer: { ...tinyTokenizer(), added_tokens: added },
      files: {
        "tokenizer_config.json": JSON.stringify({ eos_token: "<end>" }),
        "generation_config.json": JSON.stringify({ eos_token_id: [252, 253] }),
      },
    })
    expect(Array.from((await opened(folder)).ends).toSorted()).toEqual([251, 252, 253])
  })
})

describe("encoding and decoding", () => {
  test("a text comes back, whatever is in it", async () => {
    const { tokenizer } = await opened(demo.base)
    fc.assert(
      fc.property(fc.oneof(wellFormed, prose), (value) => {
        expect(detokenize(tokenizer, tokenizer.encode(value, { special: false }), { control: true })).toBe(value)
      }),
    )
  })

  test("control tokens are read in a prompt, and not in plain text", async () => {
    const { tokenizer } = await opened(demo.base)
    expect(Array.from(tokenizer.encode("<|endoftext|>"))).toEqual([0])
    const plain = tokenizer.encode("<|endoftext|>", { special: false })
    expect(plain.length).toBeGreaterThan(1)
    expect(plain).not.toContain(0)
  })

  test("control tokens are shown only on demand", async () => {
    const { tokenizer } = await opened(demo.base)
    const tokens = tokenizer.encode("a<|endoftext|>b")
    expect(detokenize(tokenizer, tokens)).toBe("ab")
    expect(detokenize(tokenizer, tokens, { control: true })).toBe("a<|endoftext|>b")
  })

  test("a merge that makes no token of a GGUF leaves its characters, as in llama.cpp", async () => {
    const { tokenizer } = await opened(writeGguf()) // it merges a and b, and has no ab
    expect(Array.from(tokenizer.encode("xaby"))).toEqual([120, 97, 98, 121])
  })
})

describe("a tokenizer.json that is refused when the model is opened", () => {
  const model = (settings: Record<string, unknown>) => ({
    model: {
      type: "BPE",
      vocab: Object.fromEntries(byteAlphabet().map((token, id) => [token, id])),
      merges: [],
      ...settings,
    },
  })
  const cutBy = (pre_tokenizer: unknown) => ({ pre_tokenizer })
  const normalizedBy = (normalizer: unknown) => ({ normalizer })
  const cases: ReadonlyArray<readonly [why: string, change: Record<string, unknown>, message: string]> = [
    ...["Metaspace", "Whitespace", "BertPreTokenizer", "UnicodeScripts", "FixedLength", "Invented"].map(
      (type) => [type, cutBy({ type }), `its pre-tokenizer is ${type}; implemented are ByteLevel, Split`] as const,
    ),
    ...["BertNormalizer", "Precompiled", "StripAccents", "Nmt"].map(
      (type) => [type, normalizedBy({ type }), `its normalizer is ${type}; implemented are NFC`] as const,
    ),
    [
      "one in a sequence",
      cutBy({ type: "Sequence", pretokenizers: [{ type: "ByteLevel" }, { type: "Metaspace" }] }),
      "its pre-tokenizer is Metaspace",
    ],
    [
      "sequences without end",
      normalizedBy(
        Array.from({ length: 20 }).reduce<unknown>((inner) => ({ type: "Sequence", normalizers: [inner] }), null),
      ),
      "its normalizers are nested too deep",
    ],
    [
      "an unknown behaviour",
      cutBy({ type: "Split", pattern: { String: "a" }, behavior: "Sideways" }),
      "its pre-tokenizer Split has settings that are not known here",
    ],
    [
      "an expression that cannot be",
      cutBy({ type: "Split", pattern: { Regex: "(" }, behavior: "Isolated" }),
      "an expression in it cannot be used here",
    ],
    ["dropout", model({ dropout: 0.1 }), "its model's dropout is 0.1"],
    ["a suffix of words", model({ end_of_word_suffix: "</w>" }), 'its model\'s end_of_word_suffix is "</w>"'],
    ["a fallback to bytes", model({ byte_fallback: true, vocab: { a: 0 } }), "its model's byte_fallback is true"],
    [
      "a merge without a token",
      model({ merges: ["a b"] }),
      'a merge of "a" and "b" makes a token that the vocabulary lacks',
    ],
    ["a merge of three", model({ merges: [["a", "b", "c"]] }), "is no pair of tokens"],
    [
      "an added token with another id",
      { added_tokens: [{ id: 250, content: "é" }] },
      'the added token "é" has the id 250, the vocabulary gives it 233',
    ],
  ]
  test.each(cases)("%s", async (_, change, message) => {
    const folder = writeFolder({ tokenizer: { ...tinyTokenizer(), ...change } })
    const error = await refused(folder)
    expect(error.message).toContain(message)
    expect(error.message).toContain(`${folder}/tokenizer.json`)
  })
})

describe("streaming", () => {
  const streamed = (tokenizer: Tokenizer, tokens: ReadonlyArray<number>): Array<string> => {
    const detokenizer = new Detokenizer(tokenizer, { control: true })
    return [...tokens.map((token) => detokenizer.push(token)), detokenizer.flush()]
  }
  const whole = (tokenizer: Tokenizer, tokens: ReadonlyArray<number>): string =>
    new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.concat(tokens.map((token) => tokenizer.bytes(token))))

  test("pieces joined are the text of all the bytes, for any tokens", async () => {
    const tiny: Model = await opened(writeGguf()) // a token a byte: every break there is
    const { tokenizer } = await opened(demo.base)
    fc.assert(
      fc.property(
        fc.array(fc.nat(255), { maxLength: 40 }),
        fc.array(fc.nat(4095), { maxLength: 40 }),
        (bytes, tokens) => {
          expect(streamed(tiny.tokenizer, bytes).join("")).toBe(whole(tiny.tokenizer, bytes))
          expect(streamed(tokenizer, tokens).join("")).toBe(whole(tokenizer, tokens))
        },
      ),
    )
  })

  test("a sound text never shows a replacement character on the way", async () => {
    const { tokenizer } = await opened(writeGguf())
    fc.assert(
      fc.property(wellFormed, (value) => {
        const pieces = streamed(tokenizer, Array.from(Buffer.from(value)))
        expect(pieces.join("")).toBe(value)
        expect(pieces.every((piece) => piece.isWellFormed())).toBe(true)
        expect(pieces.filter((piece) => piece.includes("\ufffd"))).toHaveLength(value.split("\ufffd").length - 1)
      }),
    )
  })

  test("a character is held back until its last byte", async () => {
    const { tokenizer } = await opened(writeGguf())
    expect(streamed(tokenizer, Array.from(Buffer.from("a🚀b")))).toEqual(["a", "", "", "", "🚀", "b", ""])
  })

  test("what never becomes whole is one replacement character at the end", async () => {
    const { tokenizer } = await opened(writeGguf())
    expect(streamed(tokenizer, Array.from(Buffer.from("🚀")).slice(0, 3))).toEqual(["", "", "", "\ufffd"])
  })
})

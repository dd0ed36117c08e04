// The text that a user sees: whole characters, and never a part of a stop string.
import { join } from "node:path"
import { Effect } from "effect"
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { Transcript } from "../../../src/generation/transcript.ts"
import { open } from "../../../src/model/index.ts"

const { tokenizer } = await Effect.runPromise(open(join(import.meta.dirname, "../../../models/demo/base")))

const read = (text: string, stops: ReadonlyArray<string>, minTokens = 0) => {
  const transcript = new Transcript(tokenizer, stops, minTokens)
  const pieces: Array<string> = []
  for (const token of tokenizer.encode(text, { special: false, addSpecialTokens: false })) {
    pieces.push(transcript.push(token))
    if (transcript.stopped) break
  }
  return { pieces, text: pieces.join("") + transcript.end(), stopped: transcript.stopped }
}

const first = (text: string, stops: ReadonlyArray<string>): number =>
  Math.min(text.length, ...stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0))

const texts = fc
  .array(fc.constantFrom("a", "ab", "\n", "é", "日本", "🎉", "// ", "}", "b"))
  .map((parts) => parts.join(""))

describe("transcript", () => {
  test("the pieces are the text up to the first stop string, which never shows, nor does half a character", () => {
    const stops = fc.uniqueArray(fc.constantFrom("ab", "aba", "\n\n", "🎉", "日本日", "b}", "zz"), { maxLength: 3 })
    fc.assert(
      fc.property(texts, stops, (text, stops) => {
        const said = read(text, stops)
        expect(said.text).toBe(text.slice(0, first(text, stops)))
        expect(said.stopped).toBe(stops.some((stop) => text.includes(stop)))
        for (const piece of said.pieces) expect(piece).not.toContain("\uFFFD")
      }),
      { numRuns: 500 },
    )
  })

  test("a stop string counts where it ends behind the least number of tokens", () => {
    const stops = fc.uniqueArray(fc.constantFrom("ab", "aba", "\n\n", "// ", "b}", "bab"), { maxLength: 3 })
    const ascii = fc.array(fc.constantFrom("a", "ab", "\n", "// ", "}", "b")).map((parts) => parts.join(""))
    fc.assert(
      fc.property(ascii, stops, fc.nat(8), (text, stops, minTokens) => {
        const tokens = tokenizer.encode(text, { special: false, addSpecialTokens: false })
        const spared = new TextDecoder().decode(
          Uint8Array.from(Array.from(tokens.slice(0, minTokens), (token) => [...tokenizer.bytes(token)]).flat()),
        ).length
        const ends = stops.flatMap((stop) => {
          const found = [...text].flatMap((_, at) => (text.startsWith(stop, at) ? [at] : []))
          return found.filter((at) => at + stop.length > spared)
        })
        const said = read(text, stops, minTokens)
        expect(said.stopped).toBe(ends.length > 0)
        expect(said.text).toBe(text.slice(0, Math.min(text.length, ...ends)))
      }),
      { numRuns: 1000 },
    )
  })

  test("without stop strings nothing whole is held back", () => {
    const transcript = new Transcript(tokenizer, [])
    const said = Array.from(tokenizer.encode("const a = 1", { special: false, addSpecialTokens: false }), (token) =>
      transcript.push(token),
    )
    expect(said.every((piece) => piece !== "")).toBe(true)
    expect(transcript.end()).toBe("")
  })

  describe("a stop that names a control token", () => {
    const NAME = "<|endoftext|>"
    const plain = (text: string) => tokenizer.encode(text, { special: false, addSpecialTokens: false })
    const pushed = (tokens: ReadonlyArray<number>, stops: ReadonlyArray<string>) => {
      const transcript = new Transcript(tokenizer, stops)
      const pieces: Array<string> = []
      for (const token of tokens) {
        pieces.push(transcript.push(token))
        if (transcript.stopped) break
      }
      return { pieces, text: pieces.join("") + transcript.end(), stopped: transcript.stopped }
    }

    test("ends the text there, by itself and among characters; its name never shows", () => {
      const tokens = [...plain("let a\n"), 0, ...plain("b🎉c")]
      expect(pushed(tokens, [NAME])).toMatchObject({ text: "let a\n", stopped: true })
      expect(pushed(tokens, [`\n${NAME}`])).toMatchObject({ text: "let a", stopped: true })
      expect(pushed(tokens, [`${NAME}b🎉`])).toMatchObject({ text: "let a\n", stopped: true })
      expect(pushed(tokens, [`${NAME}c`])).toMatchObject({ text: "let a\nb🎉c", stopped: false })
      expect(pushed(tokens, [`${NAME}${NAME}`, "b\udf89"])).toMatchObject({ text: "let a\nb🎉c", stopped: false })
      expect(pushed(tokens, ["|>", "zz"])).toMatchObject({ text: "let a\nb🎉c", stopped: false })
    })

    test("also where the name comes as characters", () => {
      expect(pushed([...plain(`a${NAME}b`)], [NAME])).toMatchObject({ text: "a", stopped: true })
    })

    test("holds back what may begin it, and lets go what does not", () => {
      const tokens = [...plain("a\n"), ...plain("b"), 0, ...plain("c")]
      const { pieces, text } = pushed(tokens, [`\n${NAME}`])
      expect(text).toBe("a\nbc")
      expect(pieces.join("")).toBe("a\nbc")
      expect(pieces.join("|")).toContain("\nb")
    })
  })

  test("what may become a stop string is held back until it is known not to, or until the end", () => {
    const held = read("a b", ["b!"])
    expect(held.pieces.join("")).toBe("a ")
    expect(held.text).toBe("a b")
  })
})

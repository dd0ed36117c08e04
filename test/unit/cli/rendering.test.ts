// What people see: colours by origin, nothing that steers their terminal, readable numbers, tables that line up.
import { describe, expect, it } from "vitest"
import { inker, paintToken, visible, wantsColour } from "../../../src/cli/colour.ts"
import { bar, progressOn } from "../../../src/cli/progress.ts"
import { bytes, counted, milliseconds, per } from "../../../src/cli/quantities.ts"
import { statsObject, summary } from "../../../src/cli/summary.ts"
import { table } from "../../../src/cli/table.ts"
import type { GenerationStats } from "../../../src/wire/infer.ts"

describe("colour", () => {
  it("is for terminals, NO_COLOR takes it away and FORCE_COLOR asks for it", () => {
    expect(wantsColour({ isTTY: true }, {})).toBe(true)
    expect(wantsColour({}, {})).toBe(false)
    expect(wantsColour({ isTTY: true }, { NO_COLOR: "1" })).toBe(false)
    expect(wantsColour({ isTTY: true }, { NO_COLOR: "" })).toBe(true) // as no-color.org has it
    expect(wantsColour({ isTTY: true }, { TERM: "dumb" })).toBe(false)
    expect(wantsColour({}, { FORCE_COLOR: "1" })).toBe(true)
    expect(wantsColour({}, { FORCE_COLOR: "1", NO_COLOR: "1" })).toBe(false)
  })

  it("tells the origins of tokens apart, and leaves text alone without it", () => {
    const painted = (["drafted", "corrected", "plain"] as const).map((origin) =>
      paintToken(true, { text: "a", origin }),
    )
    expect(new Set(painted).size).toBe(3)
    expect(paintToken(false, { text: "a\n", origin: "drafted" })).toBe("a\n")
    expect(paintToken(true, { text: "", origin: "drafted" })).toBe("")
    expect(inker(true)(null, "a")).toBe("a")
  })

  it("shows control characters instead of sending them to the terminal", () => {
    expect(visible("a\u001b[2Jb\u0007\r\u009b")).toBe("a␛[2Jb␇␍\ufffd")
    expect(visible("tab\tline\n日本 é")).toBe("tab\tline\n日本 é")
  })
})

describe("quantities", () => {
  it("have units that fit them", () => {
    expect([0.204, 12.4, 1234, 65_400].map(milliseconds)).toEqual(["0.20 ms", "12 ms", "1.23 s", "65.4 s"])
    expect([0, 1023, 1024, 1536, 3 * 2 ** 30].map(bytes)).toEqual(["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "3.0 GiB"])
    expect([1, 2, 1234].map((count) => counted(count, "token"))).toEqual(["1 token", "2 tokens", "1,234 tokens"])
    expect(per(5, 2)).toBe("2.5")
    expect(per(5, 0)).toBe("-")
  })
})

describe("table", () => {
  it("pads to the widest cell and leaves no trailing spaces", () => {
    const lines = table(
      [
        { title: "pass", align: "left" },
        { title: "n", align: "right" },
        { title: "note", align: "left" },
      ],
      [
        ["draft", "7", "x"],
        ["v", "1,234", ""],
      ],
    )
    expect(lines).toEqual(["pass       n  note", "draft      7  x", "v      1,234"])
  })
})

const pass = { count: 4, millis: 20, computeMillis: 12, hops: 12, messages: 24, bytes: 2048 }
const stats: GenerationStats = {
  promptTokens: 5,
  reusedTokens: 0,
  tokens: 16,
  millis: 500,
  firstTokenMillis: 40,
  tokensPerSecond: 34.8,
  iterations: 4,
  meanAcceptedLength: 3,
  passes: { verify: pass, draft: pass, decode: { ...pass, count: 0 } },
}

describe("summary", () => {
  it("names speed, accepted length, and each kind of pass that ran, in the order of an iteration", () => {
    const lines = summary(stats)
    expect(lines[0]).toContain("34.8 tokens/s")
    expect(lines[1]).toContain("mean accepted length 3.00")
    expect(lines.slice(3).map((line) => line.split(/\s+/)[0])).toEqual(["draft", "verify"])
    expect(lines[3]).toMatch(/draft +4 +20 ms +5\.00 ms +12 ms +3\.0 +24 +2\.0 KiB/)
  })

  it("says so when nothing was drafted", () => {
    expect(summary({ ...stats, passes: { decode: pass } })[1]).toContain("nothing was drafted")
  })

  it("as an object has units in its names", () => {
    const object = statsObject(stats)
    expect(object).toMatchObject({ tokensPerSecond: 34.8, iterations: 4, meanAcceptedLength: 3, milliseconds: 500 })
    expect(object.passes).toEqual({
      draft: { count: 4, milliseconds: 20, computeMilliseconds: 12, hops: 12, messages: 24, bytes: 2048 },
      verify: { count: 4, milliseconds: 20, computeMilliseconds: 12, hops: 12, messages: 24, bytes: 2048 },
    })
  })
})

describe("progress", () => {
  const record = (terminal: boolean) => {
    const written: Array<string> = []
    const write = (text: string) => written.push(text) > 0
    return { written, stream: terminal ? { isTTY: true as const, columns: 40, write } : { write } }
  }

  it("is a line for each change where nothing can be redrawn", () => {
    const { written, stream } = record(false)
    const progress = progressOn(stream)
    for (const fraction of [0, 0.5, 1]) progress.report("loading base", fraction)
    progress.report("loading draft")
    progress.clear()
    expect(written).toEqual(["loading base ...\n", "loading draft ...\n"])
  })

  it("redraws one line on a terminal and takes it away", () => {
    const { written, stream } = record(true)
    const progress = progressOn(stream)
    for (const fraction of [0, 0.5, 0.5]) progress.report("loading", fraction)
    progress.clear()
    progress.clear()
    expect(written).toHaveLength(3)
    expect(written.join("")).not.toContain("\n")
    expect(written.at(-1)).toBe("\r\u001b[2K")
  })

  it("keeps its bar within bounds", () => {
    expect(bar(2)).toBe(`${"█".repeat(24)} 100%`)
    expect(bar(-1)).toBe(`${"░".repeat(24)} 0%`)
  })
})

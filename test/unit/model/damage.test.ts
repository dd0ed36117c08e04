// Whatever bytes a model's files hold, opening it ends in a model or in an error of ours: never in a crash, never in a
// defect, and without believing a length that would take the memory.
import { cpSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Exit } from "effect"
import fc from "fast-check"
import { expect, test } from "vitest"
import { open } from "../../../src/model/index.ts"
import { demo, gguf, refused, temporaryFolder, tinyConfig, tinyTokenizer, writeFolder } from "./fixtures.ts"

/** Where to change a byte, as a fraction of the part that is worth changing, and to what. */
const changes = fc.array(fc.tuple(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.nat(255)), {
  minLength: 1,
  maxLength: 6,
})

const damage = (bytes: Buffer, within: number, where: ReadonlyArray<readonly [number, number]>): Buffer => {
  const damaged = Buffer.from(bytes)
  for (const [at, value] of where) damaged[Math.floor(at * within)] = value
  return damaged
}

/** True for a model or one of our errors. */
const endsWell = async (path: string): Promise<boolean> => {
  const exit = await Effect.runPromiseExit(open(path))
  return Exit.isSuccess(exit) || exit.cause.reasons.every(({ _tag }) => _tag === "Fail")
}

test("a GGUF file with changed bytes", async () => {
  const whole = gguf()
  const file = join(temporaryFolder(), "model.gguf")
  const head = whole.indexOf("tokenizer.ggml.tokens") // what comes before is entries, behind it mostly vocabulary
  await fc.assert(
    fc.asyncProperty(changes, fc.boolean(), async (where, early) => {
      writeFileSync(file, damage(whole, early ? head : whole.length, where))
      expect(await endsWell(file)).toBe(true)
    }),
    { numRuns: 300 },
  )
})

test.each(["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])(
  "a folder with changed bytes in %s",
  async (name) => {
    const folder = temporaryFolder()
    cpSync(demo.draft, folder, { recursive: true })
    const whole = readFileSync(join(folder, name))
    await fc.assert(
      fc.asyncProperty(changes, async (where) => {
        writeFileSync(join(folder, name), damage(whole, Math.min(whole.length, 9_000), where))
        expect(await endsWell(folder)).toBe(true)
      }),
      { numRuns: 60 },
    )
  },
)

test("a vocabulary that a file of holes makes room for", async () => {
  const rows = 2 ** 31 - 1
  const folder = writeFolder({ config: { ...tinyConfig("llama"), vocab_size: rows } })
  expect(await refused(folder)).toMatchObject({
    _tag: "ModelUnsupported",
    reason: `vocab is ${rows}; up to ${2 ** 24} is possible`,
  })
})

test("a token whose id is a list in lists in lists", async () => {
  const deep = `${"[".repeat(200_000)}${"]".repeat(200_000)}`
  const tokenizer = JSON.stringify(tinyTokenizer()).replace('"a":97', `"a":${deep}`)
  expect(tokenizer).toContain(deep)
  const error = await refused(writeFolder({ files: { "tokenizer.json": tokenizer } }))
  expect(error).toMatchObject({ _tag: "ModelCorrupt", reason: expect.stringContaining("has the id of type object") })
})

// How a model's files want it sampled: read as vLLM and llama.cpp read it, the same from a folder and from a file.
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, test } from "vitest"
import { demo, opened, refused, writeFolder, writeGguf } from "./fixtures.ts"

const folderWith = (config: object): string => {
  const folder = writeFolder()
  writeFileSync(join(folder, "generation_config.json"), JSON.stringify(config))
  return folder
}
const fileWith = (sampling: Record<string, number>): string =>
  writeGguf({
    metadata: Object.fromEntries(Object.entries(sampling).map(([key, value]) => [`general.sampling.${key}`, value])),
  })

test("a folder and a file of one model say the same, to the digit", async () => {
  const wanted = { temperature: 0.7, topK: 20, topP: 0.95, minP: 0.05, repetitionPenalty: 1.1 }
  const folder = folderWith({
    do_sample: true,
    temperature: 0.7,
    top_k: 20,
    top_p: 0.95,
    min_p: 0.05,
    repetition_penalty: 1.1,
  })
  const file = fileWith({ temp: 0.7, top_k: 20, top_p: 0.95, min_p: 0.05, penalty_repeat: 1.1 })
  expect((await opened(folder)).sampling).toEqual(wanted)
  expect((await opened(file)).sampling).toEqual(wanted)
})

test("what is not named has no default of the model's", async () => {
  expect((await opened(demo.base)).sampling).toEqual({})
  expect((await opened(writeGguf())).sampling).toEqual({})
  expect((await opened(folderWith({ eos_token_id: 2, temperature: null, top_p: 0.8 }))).sampling).toEqual({ topP: 0.8 })
})

test("do_sample: false is the most probable token, whatever the temperature; and what is below 0 is off", async () => {
  expect((await opened(folderWith({ do_sample: false, temperature: 0.6 }))).sampling).toEqual({ temperature: 0 })
  expect((await opened(folderWith({ top_k: -1 }))).sampling).toEqual({ topK: 0 })
  expect((await opened(fileWith({ temp: -0.5, penalty_repeat: 1.2, penalty_last_n: 0 }))).sampling).toEqual({
    temperature: 0,
  })
})

test("ways to choose tokens that are not done here are warned of, where they are asked for", async () => {
  const quiet = folderWith({ num_beams: 1, bad_words_ids: [], suppress_tokens: null, typical_p: 1 })
  expect((await opened(quiet)).warnings).toEqual([])
  const folder = folderWith({ no_repeat_ngram_size: 3, num_beams: 4 })
  expect((await opened(folder)).warnings).toEqual([
    expect.stringMatching(/generation_config\.json: no_repeat_ngram_size is not done here/),
    expect.stringMatching(/num_beams is not done here/),
  ])
  expect((await opened(fileWith({ mirostat: 2, xtc_probability: 0 }))).warnings).toEqual([
    expect.stringMatching(/general\.sampling\.mirostat is not done here/),
  ])
})

describe("what cannot be is refused by its name", () => {
  const cases: ReadonlyArray<readonly [string, () => string, RegExp]> = [
    [
      "a share above 1",
      () => folderWith({ top_p: 1.5 }),
      /generation_config\.json .*top_p is 1\.5; possible is a number from 0 to 1/,
    ],
    ["half a token", () => folderWith({ top_k: 2.5 }), /top_k is 2\.5; possible is a whole number from 0/],
    ["a word", () => folderWith({ temperature: "hot" }), /temperature/],
    ["a share above 1 in a file", () => fileWith({ min_p: 1.5 }), /general\.sampling\.min_p is 1\.5/],
  ]
  test.each(cases)("%s", async (_, path, message) => {
    expect((await refused(path())).message).toMatch(message)
  })
})

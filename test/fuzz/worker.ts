// Opens mutated models one after the other: node worker.ts SEED FROM TO FOLDER BACKENDS. How each ended goes into the file
// `outcomes` of the folder before the next begins; a reason that is no refusal goes to stderr.
import { openSync, writeSync } from "node:fs"
import { join } from "node:path"
import { native } from "../../native/index.ts"
import { attempt, type Ending, isBad } from "./attempt.ts"
import { Cases } from "./case.ts"
import { corpus } from "./corpus.ts"
import { byteOf } from "./outcomes.ts"

const MOST_RISE = 400_000 // KiB that one file may add to the most memory that was ever held

const [, , seed = "", from = "", to = "", folder = "", backends = ""] = process.argv
native.loadBackends(backends)
const cases = new Cases(join(folder, "models"), corpus())
const outcomes = openSync(join(folder, "outcomes"), "r+")

/** The most memory that this process has held, KiB. */
const peak = (): number => process.resourceUsage().maxRSS

let slowest = { index: -1, millis: 0 }
for (let index = Number(from); index < Number(to); index++) {
  const { sound, path, random } = cases.write(Number(seed), index)
  const [began, before] = [performance.now(), peak()]
  const ending = await attempt(random, path)
  const millis = performance.now() - began
  if (millis > slowest.millis) slowest = { index, millis }
  const { outcome, reason }: Ending =
    peak() - before > MOST_RISE && index - Number(from) > 100
      ? { outcome: "took too much memory", reason: `${peak() - before} KiB; ${ending.outcome}: ${ending.reason}` }
      : ending
  if (isBad(outcome)) process.stderr.write(`file ${index}: ${outcome}: ${reason.slice(0, 2_000)}\n`)
  writeSync(outcomes, Buffer.from([byteOf(sound.loader, outcome)]), 0, 1, index)
}
process.send?.(slowest)
process.disconnect?.()

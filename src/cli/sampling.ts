// What a generation samples with, in the words of the options; what is off is not named.

import type { SamplingDefaults } from "../wire/samplingDefaults.ts"
import type { Answer } from "./answer.ts"

const OFF: Readonly<Record<Exclude<keyof SamplingDefaults, "temperature">, readonly [name: string, off: number]>> = {
  topK: ["top-k", 0],
  topP: ["top-p", 1],
  minP: ["min-p", 0],
  repetitionPenalty: ["repetition-penalty", 1],
}

/** For --stats. */
export const sampledLine = ({ sampling, seed }: Pick<Answer, "sampling" | "seed">): string =>
  `sampled with ${[...(sampling === null ? [] : [samplingText(sampling)]), `seed ${seed}`].join(", ")}`

export const samplingText = ({ temperature, ...cuts }: SamplingDefaults): string =>
  [
    ...(temperature === undefined ? [] : [`temperature ${temperature}`]),
    ...Object.entries(OFF).flatMap(([key, [name, off]]) => {
      const value = cuts[key as keyof typeof OFF]
      return value === undefined || value === off ? [] : [`${name} ${value}`]
    }),
  ].join(", ")

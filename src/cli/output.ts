// Where an answer's text goes while it comes: stdout, token by token. On a terminal coloured by origin and ended by a
// newline; in a pipe the model's bytes and nothing else.

import type { LoggedToken } from "../wire/infer.ts"
import { paintToken, wantsColour } from "./colour.ts"
import type { Output } from "./progress.ts"

export interface AnswerOutput {
  readonly token: (token: Pick<LoggedToken, "text" | "origin">) => void
  readonly end: () => void
}

export const answerOn = (stream: Output, environment: NodeJS.ProcessEnv): AnswerOutput => {
  const coloured = wantsColour(stream, environment)
  let last = "\n"
  return {
    token: (token) => {
      if (token.text === "") return
      last = token.text
      stream.write(stream.isTTY === true || coloured ? paintToken(coloured, token) : token.text)
    },
    end: () => {
      if (stream.isTTY === true && !last.endsWith("\n")) stream.write("\n")
    },
  }
}

export const nowhere: AnswerOutput = { token: () => {}, end: () => {} }

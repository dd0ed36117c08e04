// What a generation has to be, whatever was struck: the tokens of the undisturbed run, each once and in order, in the log
// and in the eyes of every reader. Pure functions; each gives what is wrong.
import type { LogEntry } from "../wire/infer.ts"
import type { GenerationOutcome, View } from "./generation.ts"

/** What a request gives when nothing is struck. */
export interface Undisturbed {
  readonly tokens: ReadonlyArray<number>
  readonly text: string
  readonly finishReason: string
}

export const checkOutcome = (outcome: GenerationOutcome, undisturbed: Undisturbed): ReadonlyArray<string> => {
  const { problem, ending, views, text } = outcome
  if (problem !== null) return [problem]
  if (ending === null) return ["has no end"]
  return [
    ...(ending.finishReason === undisturbed.finishReason
      ? []
      : [`ended with ${ending.finishReason}, not ${undisturbed.finishReason}${ending.error && `: ${ending.error}`}`]),
    ...(text === null || text === undisturbed.text ? [] : [`its text is ${JSON.stringify(text)}`]),
    ...views.flatMap((view) => checkView(view, undisturbed.tokens)),
  ]
}

const checkView = ({ reader, from, tokens }: View, undisturbed: ReadonlyArray<number>): ReadonlyArray<string> => {
  const wrong = difference(tokens, undisturbed.slice(from))
  return wrong === null ? [] : [`${reader} from ${from} on: ${wrong}`]
}

/** Where two sequences part; null where they do not. */
const difference = (seen: ReadonlyArray<number>, expected: ReadonlyArray<number>): string | null => {
  const at = expected.findIndex((token, i) => token !== seen[i])
  if (at === -1) return seen.length === expected.length ? null : `${seen.length - expected.length} tokens too many`
  if (at >= seen.length) return `${expected.length - seen.length} tokens are missing at the end`
  const twice = at > 0 && seen[at] === expected[at - 1] && seen[at + 1] === expected[at]
  return `token ${at} is ${seen[at]}, not ${expected[at]}${twice ? ": it came twice" : ""}`
}

/** A log has one beginning and one end, and its tokens lie between them without a gap. */
export const checkLog = (entries: ReadonlyArray<LogEntry>, undisturbed: Undisturbed): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  const tokens: Array<number> = []
  for (const [i, entry] of entries.entries()) {
    if ((entry._tag === "Begin") !== (i === 0)) wrong.push(`entry ${i} of the log is ${entry._tag}`)
    if ((entry._tag === "End") !== (i === entries.length - 1)) wrong.push(`entry ${i} of the log is ${entry._tag}`)
    if (entry.at !== tokens.length) wrong.push(`entry ${i} of the log is at ${entry.at}, not ${tokens.length}`)
    if (entry._tag === "Tokens") tokens.push(...entry.tokens.map(({ id }) => id))
  }
  const tokensWrong = difference(tokens, undisturbed.tokens)
  return [...wrong, ...(tokensWrong === null ? [] : [`the log: ${tokensWrong}`])]
}

// What a client is tried for, and when that holds. A further ability is an entry here and one in the drivers of the clients
// that have it.
import type { Facts } from "./driver.ts"
import type { Expected } from "./expected.ts"

/** Why it does not hold; null where it does. */
type Judge = (facts: Facts, expected: Expected) => string | null

interface Ability {
  readonly name: string // as drivers are asked for it
  readonly heading: string
  readonly meaning: string
  readonly holds: Judge
}

const both =
  (...judges: ReadonlyArray<Judge>): Judge =>
  (facts, expected) =>
    judges.map((judge) => judge(facts, expected)).find((reason) => reason !== null) ?? null

const differ = (what: string, seen: unknown, expected: unknown): string | null =>
  JSON.stringify(seen) === JSON.stringify(expected)
    ? null
    : `${what}: ${JSON.stringify(seen)} instead of ${JSON.stringify(expected)}`

const kindOf = ({ of }: Facts): "chat" | "completion" => of ?? "completion"

/** The text of the most probable tokens and, where the client tells them, how it ended and what it used. */
const greedy: Judge = (facts, expected) => {
  const { text, finish, usage } = expected.greedy[kindOf(facts)]
  return (
    differ("the text", facts.texts, [text]) ??
    (facts.finish === undefined ? null : differ("the finish reason", facts.finish, [finish])) ??
    (facts.usage === undefined ? null : differ("the usage", facts.usage, usage))
  )
}

const inPieces: Judge = ({ pieces }) =>
  pieces === undefined || pieces > 2 ? null : `the text came in ${pieces} pieces, so it was not streamed`

const counted: Judge = ({ usage }) => (usage === undefined ? "no usage" : null)

const stopped: Judge = (facts, expected) => {
  const { text } = expected.greedy[kindOf(facts)]
  const before = text.slice(0, text.indexOf(expected.stop[kindOf(facts)]))
  return (
    differ("the text", facts.texts, [before]) ??
    (facts.finish === undefined ? null : differ("the finish reason", facts.finish, ["stop"]))
  )
}

const seeded: Judge = (facts, expected) => differ("the text", facts.texts, [expected.seeded[kindOf(facts)]])

const twoChoices: Judge = ({ texts }, { seeded, second }) => differ("the texts", texts, [seeded.chat, second])

const eight: Judge = (facts, expected) => differ("the texts", facts.texts, expected.eight[kindOf(facts)])

/** They go through JSON, and some clients round them. */
const NEAR = 1e-4

const near = (a: number | null | undefined, b: number | undefined): boolean =>
  a != null && b !== undefined && Math.abs(a - b) < NEAR

const logProbabilities: Judge = (facts, expected) => {
  const { logprobs } = expected.greedy[kindOf(facts)]
  const same = facts.logprobs?.length === logprobs.length && logprobs.every((one, i) => near(facts.logprobs?.[i], one))
  return same ? null : differ("the log-probabilities", facts.logprobs, logprobs)
}

/** The prompt before the answer, each of its tokens with its log-probability but the first, which follows from nothing. */
const echoed: Judge = ({ texts, logprobs = [] }, { greedy: { completion }, prompt }) => {
  const { usage, text } = completion
  const answer = logprobs.slice(usage.prompt)
  return (
    differ("the text", texts, [prompt + text]) ??
    differ("the number of log-probabilities", logprobs.length, usage.prompt + usage.completion) ??
    differ("the first log-probability", logprobs[0], null) ??
    (answer.every((one, i) => near(one, completion.logprobs[i])) &&
    logprobs.slice(1).every((one) => one !== null && one <= 0)
      ? null
      : `the log-probabilities are ${JSON.stringify(logprobs)}`)
  )
}

const likelihood: Judge = ({ sum, greedy }, { likely }) => {
  const [expected] = likely.logprobs
  return near(sum, expected) && greedy === true ? null : `the sum is ${sum} instead of ${expected}; greedy: ${greedy}`
}

const readersCounts: Judge = (facts, { greedy: { completion } }) => {
  const seen = facts.counted ?? facts.usage?.completion
  const expected = facts.counted === undefined ? completion.usage.completion : 8 * completion.usage.completion
  return differ("the tokens counted", seen, expected)
}

const refusal =
  (status: number, param?: string): Judge =>
  (facts) =>
    differ("the status", facts.status, status) ??
    (param === undefined || facts.param === undefined ? null : differ("the field named", facts.param, param))

export const ABILITIES: ReadonlyArray<Ability> = [
  {
    name: "models",
    heading: "models",
    meaning: "lists the deployments",
    holds: ({ models = [] }, expected) => differ("the models", [...models].sort(), [...expected.models].sort()),
  },
  { name: "completion", heading: "completion", meaning: "the text, its end and its usage", holds: greedy },
  { name: "chat", heading: "chat", meaning: "likewise", holds: greedy },
  {
    name: "streamed completion",
    heading: "streamed completion",
    meaning: "the same text, in pieces",
    holds: both(greedy, inPieces),
  },
  { name: "streamed chat", heading: "streamed chat", meaning: "likewise", holds: both(greedy, inPieces) },
  {
    name: "streamed usage",
    heading: "streamed usage",
    meaning: "in a stream's last event",
    holds: both(counted, greedy),
  },
  { name: "stop", heading: "stop", meaning: "ends before a text", holds: stopped },
  { name: "seed", heading: "seed", meaning: "the same seed gives every client the same tokens", holds: seeded },
  { name: "n", heading: "n", meaning: "two choices, the first of which has the seed itself", holds: twoChoices },
  {
    name: "penalties",
    heading: "penalties",
    meaning: "of presence and frequency",
    holds: ({ texts }, { penalized }) => differ("the text", texts, [penalized]),
  },
  { name: "log-probabilities", heading: "log-prob.", meaning: "of a completion", holds: logProbabilities },
  { name: "chat's log-probabilities", heading: "chat's log-prob.", meaning: "of a chat", holds: logProbabilities },
  { name: "echo", heading: "echo", meaning: "the prompt's tokens with their log-probabilities", holds: echoed },
  { name: "log-likelihood", heading: "log-likelihood", meaning: "of a continuation, by echo", holds: likelihood },
  {
    name: "characters",
    heading: "characters",
    meaning: "that are no ASCII arrive as they are",
    holds: ({ texts }, { accents }) => differ("the text", texts, [accents]),
  },
  { name: "eight at once", heading: "eight at once", meaning: "each with the tokens of its seed", holds: eight },
  {
    name: "reader's counts",
    heading: "counts",
    meaning: "a benchmark counts as many tokens as were generated",
    holds: readersCounts,
  },
  {
    name: "bad field",
    heading: "bad field",
    meaning: "the client's own error for status 400, which names the field",
    holds: refusal(400, "top_p"),
  },
  { name: "unknown model", heading: "unknown model", meaning: "likewise for 404", holds: refusal(404) },
  {
    name: "API key",
    heading: "API key",
    meaning: "likewise for 401; all else is asked with a key",
    holds: refusal(401),
  },
]

/** Tried on the deployment that is busy with others, all clients at the same time. */
export const HELD_ABILITIES: ReadonlyArray<Ability> = [
  { name: "hang-up", heading: "hang-up", meaning: "cancels the session", holds: () => null },
  {
    name: "silence",
    heading: "silence",
    meaning: "the text of a stream that is silent twice as long as the gateway leaves it empty",
    holds: greedy,
  },
  {
    name: "silence with ids",
    heading: "silence, ids",
    meaning: "likewise where the client may take up the stream",
    holds: greedy,
  },
]

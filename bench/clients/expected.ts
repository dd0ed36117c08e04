// What the clients have to see. It comes from Chorus's own client over NATS, so that nothing of the gateway is in it, but for
// the second of two choices, whose seed is the gateway's affair.
import { Schema } from "effect"
import { type Client, connect } from "../../src/client/index.ts"
import { CONTEXT, HELD, KEY, MODEL, type Server } from "./server.ts"

const PROMPT = "export class Queue<T> {\n"
/** Ends in no blank and is followed by one: lm-evaluation-harness moves blanks at a context's end into the continuation. */
const STATEMENT = "export class"
const MESSAGE = "Say something."
/** Continued with such characters, for it is full of them. */
const ACCENTS = "// é é é é é é é é é é é é é é"
const PENALTIES = { presence: 1.5, frequency: 0.5 }
const MAX_TOKENS = 24
const SEED = 17
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8]

type Of<A> = { readonly chat: A; readonly completion: A }

interface Reference {
  readonly text: string
  readonly finish: string
  readonly usage: { readonly prompt: number; readonly completion: number }
  readonly logprobs: ReadonlyArray<number>
}

export interface Expected {
  readonly prompt: string
  readonly models: ReadonlyArray<string>
  readonly greedy: Of<Reference>
  readonly likely: Reference // the token that follows the statement
  readonly seeded: Of<string>
  readonly second: string // of a chat's two choices
  readonly eight: Of<ReadonlyArray<string>>
  readonly stop: Of<string>
  readonly accents: string
  readonly penalized: string // chat
}

/** What every driver is told. */
export interface Asked {
  readonly url: string // of the API
  readonly key: string
  readonly wrongKey: string
  readonly model: string
  readonly held: string
  readonly prompt: string
  readonly message: string
  readonly accents: string
  readonly statement: string
  readonly continuation: string // of the statement, by the most probable token
  readonly maxTokens: number
  readonly stop: Of<string>
  readonly penalties: { readonly presence: number; readonly frequency: number }
  readonly seed: number
  readonly seeds: ReadonlyArray<number>
  readonly tokenizer: string // folder
}

export const expectedOf = async ({ nats, keys, http }: Server): Promise<Expected> => {
  await using client = await connect({ url: nats, keys, deployment: MODEL })
  const [chat, completion] = [{ messages: [{ role: "user" as const, content: MESSAGE }] }, { prompt: PROMPT }]
  const greedy = {
    chat: await referenceOf(client, { ...chat, temperature: 0 }),
    completion: await referenceOf(client, { ...completion, temperature: 0 }),
  }
  const seeded = async (asked: object, seed: number): Promise<string> =>
    (await referenceOf(client, { ...asked, temperature: 1, seed: BigInt(seed) })).text
  return {
    ...{ models: [MODEL, HELD], prompt: PROMPT },
    greedy,
    likely: await referenceOf(client, { prompt: STATEMENT, temperature: 0 }, 1),
    seeded: { chat: await seeded(chat, SEED), completion: await seeded(completion, SEED) },
    second: await secondChoice(http),
    eight: {
      chat: await Promise.all(SEEDS.map((seed) => seeded(chat, seed))),
      completion: await Promise.all(SEEDS.map((seed) => seeded(completion, seed))),
    },
    stop: { chat: middleOf(greedy.chat.text), completion: middleOf(greedy.completion.text) },
    penalized: (
      await referenceOf(client, {
        ...{ ...chat, temperature: 0 },
        ...{ presencePenalty: PENALTIES.presence, frequencyPenalty: PENALTIES.frequency },
      })
    ).text,
    accents: (await referenceOf(client, { prompt: ACCENTS, temperature: 0 })).text,
  }
}

const referenceOf = async (client: Client, asked: object, maxTokens = MAX_TOKENS): Promise<Reference> => {
  const { text, finishReason, stats, tokens, logProbs } = await client.complete({
    ...asked,
    ...{ maxTokens, logprobs: 1 },
  })
  return {
    ...{ text, finish: finishReason },
    usage: { prompt: stats.promptTokens, completion: tokens.length },
    logprobs: (logProbs ?? []).map(({ logProb }) => logProb),
  }
}

const decodeChoices = Schema.decodeUnknownSync(
  Schema.Struct({ choices: Schema.Array(Schema.Struct({ message: Schema.Struct({ content: Schema.String }) })) }),
)

const secondChoice = async (http: string): Promise<string> => {
  const sampled = { max_tokens: MAX_TOKENS, temperature: 1, seed: SEED, n: 2 }
  const answer = await fetch(`${http}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    body: JSON.stringify({ model: MODEL, messages: [{ role: "user", content: MESSAGE }], ...sampled }),
  })
  const { choices } = decodeChoices(await answer.json())
  return choices[1]?.message.content ?? ""
}

/** Some characters in the middle of a text that are nowhere before. */
const middleOf = (text: string): string => {
  for (let from = Math.floor(text.length / 3); from + 4 <= text.length; from++) {
    const piece = text.slice(from, from + 4)
    if (text.indexOf(piece) === from && piece.trim() === piece) return piece
  }
  throw new RangeError(`no piece of this text stands there once: ${text}`)
}

export const askedOf = ({ base }: Server, expected: Expected): Omit<Asked, "url"> => ({
  ...{ key: KEY, wrongKey: "another-key", model: MODEL, held: HELD, tokenizer: base },
  ...{ prompt: PROMPT, message: MESSAGE, accents: ACCENTS },
  ...{ statement: STATEMENT, continuation: expected.likely.text },
  ...{ maxTokens: MAX_TOKENS, penalties: PENALTIES, stop: expected.stop, seed: SEED, seeds: SEEDS },
})

/** A request that the held deployment is busy with for long: as many sessions as one request may have. */
export const HOLDING = {
  ...{ model: HELD, prompt: Array(4).fill(PROMPT), n: 16, stream: true, temperature: 1, seed: 1 },
  max_tokens: CONTEXT - 64,
} as const

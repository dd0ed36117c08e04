// Text prompts of real models, the user's ways: by HTTP, over NATS and on the command line, decoded plainly and with a fuzzy
// draft, go on as with llama.cpp, which made the tokens of test/golden/prompts-llama.json.
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import OpenAI from "openai"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { detokenize, open, type Tokenizer } from "../../src/model/index.ts"
import type { InferRequest } from "../../src/wire/infer.ts"
import { howToGet, isMissing, type Weights, weights } from "../weights.ts"
import { Cluster } from "./cluster.ts"
import { type CommandLine, commandLine } from "./commandLine.ts"
import { chatModel } from "./gateways.ts"
import { TREE } from "./requests.ts"

const Prompt = Schema.Struct({
  prompt: Schema.String,
  tokens: Schema.Array(Schema.Int), // of the prompt
  answer: Schema.Array(Schema.Int),
  ends: Schema.Boolean, // the token behind the answer ends it
})
type Prompt = typeof Prompt.Type
const Golden = Schema.Struct({
  smollm2: Schema.optionalKey(Schema.Array(Prompt)),
  "coder-0.5b": Schema.optionalKey(Schema.Array(Prompt)),
  "coder-1.5b": Schema.optionalKey(Schema.Array(Prompt)),
})
const path = join(import.meta.dirname, "../golden/prompts-llama.json")
const golden = Schema.decodeUnknownSync(Golden)(JSON.parse(readFileSync(path, "utf8")))

const PAIRS: ReadonlyArray<{ readonly base: Weights; readonly draft: Weights }> = [
  { base: "smollm2", draft: "smollm2" },
  { base: "coder-0.5b", draft: "coder-0.5b" },
  { base: "coder-1.5b", draft: "coder-0.5b" },
]
const TURN = "<|im_start|>user\nSay yes.<|im_end|>\n"

const Completion = Schema.Struct({
  choices: Schema.Array(Schema.Struct({ text: Schema.String, finish_reason: Schema.String })),
  usage: Schema.Struct({ prompt_tokens: Schema.Int }),
})

const complete = async ({ local }: Cluster, body: object) => {
  const response = await fetch(`${local.http}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "test", temperature: 0, ...body }),
  })
  const { choices, usage } = Schema.decodeUnknownSync(Completion)(await response.json())
  return { text: choices[0]?.text, finish: choices[0]?.finish_reason, prompt: usage.prompt_tokens }
}

const Generated = Schema.Struct({ text: Schema.String, tokens: Schema.Array(Schema.Int), finishReason: Schema.String })

/** The command line, asking the cluster. */
const generate = async (chorus: CommandLine, { local, keys }: Cluster, args: ReadonlyArray<string>) => {
  const place = ["--nats", local.url, ...(keys === null ? [] : ["--keys", keys]), "--name", "test"]
  const { code, stdout, stderr } = await chorus.run(["generate", ...place, "--json", "--temperature", "0", ...args])
  expect({ code, stderr }).toMatchObject({ code: 0 })
  return Schema.decodeUnknownSync(Generated)(JSON.parse(stdout))
}

/** Some at a time, as they would come. */
const inTurn = async <A, B>(all: ReadonlyArray<A>, width: number, use: (one: A) => Promise<B>) => {
  const results: Array<B> = []
  for (let i = 0; i < all.length; i += width) results.push(...(await Promise.all(all.slice(i, i + width).map(use))))
  return results
}

describe.each(PAIRS.filter(({ base }) => golden[base] !== undefined))("$base", ({ base, draft }) => {
  const prompts = golden[base] ?? []
  const controls = prompts.filter(({ prompt }) => prompt.includes("<|"))
  const most = ({ answer, ends }: Prompt) => answer.length + (ends ? 1 : 0)
  const finish = ({ ends }: Prompt) => (ends ? "stop" : "length")
  test("forty prompts, ten of them with control tokens", () => {
    expect([prompts.length, controls.length]).toEqual([40, 10])
  })

  let tokenizer: Tokenizer
  beforeAll(async () => {
    if (!isMissing(base)) tokenizer = (await Effect.runPromise(open(weights(base)))).tokenizer
  })

  describe.each([
    { way: "plain", drafts: false },
    { way: "with a fuzzy draft", drafts: true },
  ])(`$way${howToGet(base, draft)}`, ({ drafts }) => {
    const skip = isMissing(base, draft)
    let cluster: Cluster
    let chorus: CommandLine
    beforeAll(async () => {
      if (skip) return
      const limits = { keepMillis: 60_000 }
      const gateway = { CHORUS_HTTP_PORT: "0" }
      const models = { base: weights(base), draft: drafts ? weights(draft) : null }
      cluster = await Cluster.start({ ...models, context: 256, limits, gateway })
      chorus = commandLine()
    })
    afterAll(async () => {
      chorus?.close()
      await cluster?.[Symbol.asyncDispose]()
    })

    test.skipIf(skip)("over NATS", async () => {
      const endings = await inTurn(prompts, 8, async (one) => {
        const request: InferRequest = { prompt: one.prompt, maxTokens: most(one), temperature: 0 }
        const { tokens, finishReason, stats } = await cluster.generate(
          drafts ? { ...request, speculation: TREE } : request,
        )
        return { prompt: one.prompt, promptTokens: stats.promptTokens, tokens, finishReason }
      })
      expect(endings).toEqual(
        prompts.map((one) => ({
          ...{ prompt: one.prompt, promptTokens: one.tokens.length, tokens: one.answer, finishReason: finish(one) },
        })),
      )
    })

    test.skipIf(skip)("by HTTP", async () => {
      const answers = await inTurn(prompts, 8, (one) =>
        complete(cluster, { prompt: one.prompt, max_tokens: most(one) }),
      )
      expect(answers).toEqual(
        prompts.map((one) => ({
          ...{ text: detokenize(tokenizer, one.answer), finish: finish(one), prompt: one.tokens.length },
        })),
      )
    })

    test.skipIf(skip)("on the command line", async () => {
      const asked = base === "smollm2" ? prompts : controls
      const speculation = drafts ? ["--tree", "3,2,6", "--fuzzy", "4"] : ["--no-speculation"]
      const answers = await inTurn(asked, 4, (one) =>
        generate(chorus, cluster, ["--prompt", one.prompt, "--max-tokens", `${most(one)}`, ...speculation]),
      )
      expect(answers.map(({ tokens }) => tokens)).toEqual(asked.map(({ answer }) => answer))
    })

    const stopping = base === "smollm2" ? [TURN] : []
    test.skipIf(skip).each(stopping)("a stop that names a control token ends the generation: %j", async (prompt) => {
      const turn = { prompt, maxTokens: 6, temperature: 0 }
      const request: InferRequest = drafts ? { ...turn, speculation: TREE } : turn
      const [start] = tokenizer.encode("<|im_start|>")
      const { tokens } = await cluster.generate(request)
      const at = tokens.indexOf(start ?? -1)
      expect(at).toBeGreaterThanOrEqual(0)
      const before = tokens.slice(0, at + 1)
      const expected = { text: detokenize(tokenizer, before), finishReason: "stop" }
      expect(await cluster.generate({ ...request, stop: ["<|im_start|>"] })).toMatchObject({
        ...expected,
        tokens: before,
      })
      const byHttp = { prompt: turn.prompt, max_tokens: 6, stop: "<|im_start|>" }
      expect(await complete(cluster, byHttp)).toMatchObject({ text: expected.text, finish: "stop" })
      const args = ["--prompt", turn.prompt, "--max-tokens", "6", "--stop", "--", "--stop", "<|im_start|>"]
      expect(await generate(chorus, cluster, args)).toMatchObject({ ...expected, tokens: before })
    })
  })
})

test("a prompt that begins with dashes, and one without what the files add, are asked for on the command line", async () => {
  await using cluster = await Cluster.start({ draft: null })
  const chorus = commandLine()
  try {
    const { tokens } = await cluster.generate({ prompt: "--json", maxTokens: 4, temperature: 0 })
    for (const name of ["--prompt", "-p"]) {
      expect(await generate(chorus, cluster, [name, "--json", "--max-tokens", "4"])).toMatchObject({ tokens })
    }
    const args = ["--no-add-special-tokens", "--prompt", "--json", "--max-tokens", "4"]
    expect(await generate(chorus, cluster, args)).toMatchObject({ tokens }) // the demo pair's files add nothing
  } finally {
    chorus.close()
  }
})

describe("a model whose files add bos, and that can chat", () => {
  const model = chatModel(undefined, { add_bos_token: true, chat_template: "{{ messages[0].content | trim }}\nexport" })
  let tokenizer: Tokenizer
  let cluster: Cluster
  beforeAll(async () => {
    tokenizer = (await Effect.runPromise(open(model.path))).tokenizer
    cluster = await Cluster.start({ base: model.path, draft: null, gateway: { CHORUS_HTTP_PORT: "0" } })
  })
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]()
    model[Symbol.dispose]()
  })
  const lengthOf = (text: string) => tokenizer.encode(text, { special: false, addSpecialTokens: false }).length

  test("gives a text bos by HTTP and over NATS, unless it is not wanted", async () => {
    const prompt = "export class"
    const length = lengthOf(prompt)
    const promptTokens = async (request: InferRequest) => (await cluster.generate(request)).stats.promptTokens
    expect(await promptTokens({ prompt, maxTokens: 1 })).toBe(length + 1)
    expect(await promptTokens({ prompt, maxTokens: 1, addSpecialTokens: false })).toBe(length)
    expect(await complete(cluster, { prompt, max_tokens: 1 })).toMatchObject({ prompt: length + 1 })
    const without = { prompt, max_tokens: 1, add_special_tokens: false }
    expect(await complete(cluster, without)).toMatchObject({ prompt: length })
    expect(await complete(cluster, { prompt: `<|endoftext|>${prompt}`, max_tokens: 1 })).toMatchObject({
      prompt: length + 2,
    })
  })

  test("takes what is said in a chat for characters", async () => {
    const messages = [{ role: "user", content: " // <|endoftext|>\n" }]
    const length = lengthOf("// <|endoftext|>\nexport")
    const { stats } = await cluster.generate({ messages, maxTokens: 1 })
    expect(stats.promptTokens).toBe(length)
    const added = await cluster.generate({ messages, maxTokens: 1, addSpecialTokens: true })
    expect(added.stats.promptTokens).toBe(length + 1)
    const openai = new OpenAI({ baseURL: `${cluster.local.http}/v1`, apiKey: "none", maxRetries: 0 })
    const request = {
      model: "test",
      messages: [{ role: "user" as const, content: " // <|endoftext|>\n" }],
      max_tokens: 1,
    }
    const { usage } = await openai.chat.completions.create(request)
    expect(usage?.prompt_tokens).toBe(length)
  })
})

// chorus generate: one answer to one prompt. Starts the ranks that it needs and takes them away again, or asks a deployment
// that runs already.
import { Console, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { type Answer, answerTo, failureOf, objectOf } from "./answer.ts"
import { type Cluster, deploymentAt, localCluster, runningNamed } from "./cluster.ts"
import { legend, wantsColour } from "./colour.ts"
import { UsageError } from "./errors.ts"
import * as flags from "./flags.ts"
import { contextOf } from "./models.ts"
import { located } from "./named.ts"
import { answerOn, nowhere } from "./output.ts"
import { deploymentOf, modelsOf, placementGiven } from "./placement.ts"
import { type Progress, progressOn } from "./progress.ts"
import { readPrompt } from "./prompt.ts"
import { requestOf } from "./request.ts"
import { sampledLine } from "./sampling.ts"
import { keysFor } from "./server.ts"
import { summary } from "./summary.ts"

const options = {
  prompt: Flag.String("prompt").pipe(
    Flag.withAlias("p"),
    Flag.withDescription("the text to continue (default: stdin)"),
    Flag.withMetavar("TEXT"),
    Flag.optional,
  ),
  chat: flags
    .toggle("chat")
    .pipe(Flag.withDescription("the prompt is said to the model, in its own chat template"), Flag.withDefault(false)),
  ...flags.sampling,
  ...flags.placement,
  ...flags.speculation,
  nats: flags.nats.pipe(
    Flag.withDescription("use this NATS server; without options for models and ranks, the deployment that runs there"),
    Flag.optional,
  ),
  keys: flags.keys,
  name: flags.deploymentName.pipe(
    Flag.withDescription(
      "ask this deployment: of --nats, or what `chorus up` runs here or `chorus deploy` has added to it",
    ),
    Flag.optional,
  ),
  json: flags.jsonOf("print one object when it is done: text, tokens, finishReason, stats"),
  stats: flags.stats,
}

type Options = flags.Values<typeof options>

export const generate = Command.make(
  "generate",
  options,
  Effect.fnUntraced(function* (given) {
    const text = yield* readPrompt(given.prompt)
    const own = placementGiven(given)
    if (Option.isSome(given.name) && own.length > 0) {
      const reason = `--name asks a deployment that runs, ${own.join(" and ")} is for ranks of one's own: leave out one`
      return yield* new UsageError({ reason })
    }
    const drafts = Option.isSome(given.name) || modelsOf(given).draft !== null
    const request = yield* requestOf(given, { text, chat: given.chat }, drafts)
    const progress = progressOn(process.stderr)
    const cluster = yield* clusterFor(given, progress)
    const answer = yield* answerTo(
      cluster,
      request,
      given.json ? nowhere : answerOn(process.stdout, process.env),
      progress,
    )
    yield* tell(given, answer)
    const failure = failureOf(answer)
    if (failure !== undefined) return yield* failure
  }, Effect.scoped),
).pipe(
  Command.withDescription("Generate text: continue a prompt, or answer one with --chat"),
  Command.withExamples([
    { command: "chorus generate --prompt 'export class Queue<T> {' --stats", description: "The demo pair" },
    {
      command:
        "chorus generate --base Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF:q4_k_m --draft Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF:q4_k_m --chat --prompt 'Reverse a string in Go' --max-tokens 200",
      description: "A base and a draft of one series, brought from the Hugging Face hub where they are missing",
    },
    {
      command: "chorus generate --base model.gguf --temperature 0.8 --seed 7 < prompt.txt",
      description: "Plain decoding, from stdin",
    },
    {
      command: "chorus generate --tree 5,4,16 --draft-ranks 3 --prompt x --json | jq .stats",
      description: "A forced tree, measured",
    },
    { command: "chorus generate --name demo --prompt x", description: "Ask what `chorus up` runs here" },
  ]),
)

/** A deployment that runs, where one is asked for or found, else ranks that this command starts until the scope closes. */
const clusterFor = Effect.fnUntraced(function* (given: Options, progress: Progress) {
  const keys = keysFor(given)
  if (Option.isSome(given.name)) {
    return Option.isSome(given.nats)
      ? ({ ...{ url: given.nats.value, keys }, deployment: given.name.value } satisfies Cluster)
      : yield* runningNamed(given.name.value)
  }
  if (Option.isSome(given.nats) && placementGiven(given).length === 0) {
    const found = yield* deploymentAt({ url: given.nats.value, keys })
    if (found !== undefined) return found
  }
  const own = yield* located(given, progress)
  const deployment = yield* deploymentOf(own, {
    name: `generate-${process.pid}`,
    speculation: Option.getOrElse(given.speculation, () => true),
    fuzzy: given.fuzzy,
    context: yield* contextOf(own),
  })
  return yield* localCluster(deployment, { nats: given.nats, keys, progress })
})

const tell = Effect.fnUntraced(function* (given: Options, answer: Answer) {
  if (given.json) yield* Console.log(JSON.stringify(objectOf(answer)))
  if (!given.stats) return
  if (wantsColour(process.stdout, process.env) && !given.json) yield* Console.error(`\n${legend(true)}`)
  yield* Console.error(sampledLine(answer))
  for (const line of summary(answer.stats)) yield* Console.error(line)
})

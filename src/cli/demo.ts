// chorus demo: the demo pair on one base rank and two draft ranks. One prompt, three times on the same processes: with
// fuzzy drafts, with exact drafts, and decoded plainly; the tokens have to be the same each time.
import { Console, Effect, Option } from "effect"
import { Command } from "effect/cli"
import type { InferRequest } from "../wire/infer.ts"
import { type Answer, answerTo } from "./answer.ts"
import { type Cluster, localCluster } from "./cluster.ts"
import { inker, legend, wantsColour } from "./colour.ts"
import { CommandFailed } from "./errors.ts"
import { answerOn, nowhere } from "./output.ts"
import { deploymentOf, noPlacement } from "./placement.ts"
import { progressOn } from "./progress.ts"
import { per } from "./quantities.ts"
import { summary } from "./summary.ts"

const PROMPT = "/** A queue with a bound: offers wait while it is full. */\nexport class BoundedQueue<T> {\n"

// Forced, so that speculation is seen at work: the adaptive control would find that it does not pay for models this small.
const TREE = { depth: 5, width: 4, nodes: 12 }

const REQUEST: InferRequest = { prompt: PROMPT, maxTokens: 160, temperature: 0, seed: 7n, speculation: TREE, fuzzy: 4 }

export const demo = Command.make(
  "demo",
  {},
  Effect.fnUntraced(function* () {
    const ink = inker(wantsColour(process.stdout, process.env))
    const progress = progressOn(process.stderr)
    const deployment = yield* deploymentOf(noPlacement, {
      name: "demo",
      speculation: true,
      fuzzy: Option.none(),
      context: 1024,
    })
    const cluster = yield* localCluster(deployment, { nats: Option.none(), keys: null, progress })
    progress.clear()
    yield* Console.log(
      ink(
        "dim",
        `One base rank and two draft ranks, over nats-server at ${cluster.url}. In the text: ${legendOf()}.\n`,
      ),
    )
    process.stdout.write(ink("bold", PROMPT))
    const fuzzy = yield* answerTo(cluster, REQUEST, answerOn(process.stdout, process.env))
    yield* Console.log("")
    const { exact, plain } = yield* again(cluster)
    yield* same(fuzzy, exact, "exact drafts")
    yield* same(fuzzy, plain, "plain decoding")
    yield* Console.log(report(fuzzy, exact, plain).join("\n"))
  }, Effect.scoped),
).pipe(
  Command.withDescription("Generate with the small pair in models/demo and show what each part does"),
  Command.withExamples([{ command: "chorus demo", description: "What `npm run demo` runs after the set-up" }]),
)

const legendOf = (): string => legend(wantsColour(process.stdout, process.env))

/** The same request, drafted exactly and not drafted at all. */
const again = Effect.fnUntraced(function* (cluster: Cluster) {
  const exact = yield* answerTo(cluster, { ...REQUEST, fuzzy: 1 }, nowhere)
  const plain = yield* answerTo(cluster, { ...REQUEST, speculation: "none" }, nowhere)
  return { exact, plain }
})

const same = (one: Answer, other: Answer, how: string): Effect.Effect<void, CommandFailed> => {
  const at = one.tokens.findIndex((token, index) => token !== other.tokens[index])
  if (at === -1 && one.tokens.length === other.tokens.length) return Effect.void
  const reason = `with fuzzy drafts and with ${how} the tokens differ from the ${at + 1}. on. That must not be: please report it.`
  return Effect.fail(new CommandFailed({ reason }))
}

const report = (fuzzy: Answer, exact: Answer, plain: Answer): ReadonlyArray<string> => {
  const ink = inker(wantsColour(process.stdout, process.env))
  const speeds = `${fuzzy.stats.tokensPerSecond.toFixed(1)} tokens/s with speculation, ${plain.stats.tokensPerSecond.toFixed(1)} decoded plainly`
  return [
    ink("green", `✓ The same ${fuzzy.tokens.length} tokens with fuzzy drafts, with exact drafts, and decoded plainly.`),
    "",
    ...summary(fuzzy.stats),
    "",
    `${speeds}, measured one after the other on the same processes.`,
    `Drafting a tree: ${draftCost(fuzzy)} with 4 attention layers at once, ${draftCost(exact)} layer by layer.`,
    "",
    ink(
      "dim",
      "The demo pair shows every part at work. It is far too small to be sped up by being spread over processes: a layer\n" +
        "takes microseconds to compute and a message some tenths of a millisecond. For a pair that is not:",
    ),
    "  npx chorus generate --base Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF:q4_k_m --draft Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF:q4_k_m \\",
    "    --prompt 'def fibonacci(n):' --max-tokens 128 --stats",
  ]
}

const draftCost = ({ stats }: Answer): string => {
  const draft = stats.passes.draft
  if (draft === undefined) return "nothing"
  return `${per(draft.hops, draft.count)} hops and ${per(draft.millis, draft.count)} ms`
}

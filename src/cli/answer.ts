// An answer, from the request to its last token.
import { Effect } from "effect"
import { connect, type Ending, type SampledWith } from "../client/index.ts"
import type { InferRequest } from "../wire/infer.ts"
import type { Cluster, LocalCluster } from "./cluster.ts"
import { CommandFailed } from "./errors.ts"
import type { AnswerOutput } from "./output.ts"
import { type Progress, silent } from "./progress.ts"
import { statsObject } from "./summary.ts"

/** How long a cancelled session is waited for. */
const FAREWELL_MILLIS = 2_000

export interface Answer extends Ending {
  readonly seed: bigint
  readonly sampling: SampledWith | null
}

/** Asks, and writes the text out as it comes. Interruption cancels the session. */
export const answerTo = (
  cluster: Cluster | LocalCluster,
  request: InferRequest,
  output: AnswerOutput,
  progress: Progress = silent,
): Effect.Effect<Answer, CommandFailed> =>
  Effect.suspend(() => {
    const asking = new AbortController()
    const asked = ask(cluster, request, output, progress, asking.signal)
    const cancel = Effect.promise(() => {
      asking.abort()
      return asked.catch(() => undefined)
    })
    const answer = Effect.tryPromise({ try: () => asked, catch: failed }).pipe(
      Effect.onInterrupt(() => Effect.timeoutOption(cancel, FAREWELL_MILLIS)), // until the session has ended
    )
    if (!("failed" in cluster)) return answer
    return Effect.raceFirst(answer, Effect.mapError(cluster.failed, failed))
  })

const ask = async (
  { url, keys, deployment }: Cluster,
  request: InferRequest,
  output: AnswerOutput,
  progress: Progress,
  signal: AbortSignal,
): Promise<Answer> => {
  await using client = await connect({ url, keys, deployment, role: "operator" })
  progress.report("Reading the prompt")
  const generation = await client.generate(request, {
    signal,
    activating: (fraction) => progress.report("Starting the ranks", fraction),
  })
  for await (const token of generation) {
    progress.clear()
    output.token(token)
  }
  progress.clear()
  output.end()
  const { seed, sampling } = generation
  return { ...(await generation.ending()), seed, sampling }
}

const failed = (error: unknown): CommandFailed =>
  new CommandFailed({ reason: error instanceof Error ? error.message : String(error) })

/** Why an answer that came to an end is a failure all the same. */
export const failureOf = ({ finishReason, error }: Answer): CommandFailed | undefined => {
  if (finishReason === "failed") return new CommandFailed({ reason: error })
  return finishReason === "cancelled" ? new CommandFailed({ reason: "the generation was cancelled" }) : undefined
}

/** What --json prints. A seed has 64 bits, more than a JSON number keeps. */
export const objectOf = ({ text, tokens, finishReason, error, seed, sampling, stats }: Answer) => ({
  ...{ text, tokens, finishReason, seed: `${seed}`, sampling },
  ...(error === "" ? {} : { error }),
  stats: statsObject(stats),
})

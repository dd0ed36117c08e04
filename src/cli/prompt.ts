// The prompt: --prompt, or what is piped in.
import { text } from "node:stream/consumers"
import { Effect, Option } from "effect"
import { UsageError } from "./errors.ts"

export const readPrompt = (given: Option.Option<string>): Effect.Effect<string, UsageError> =>
  Effect.gen(function* () {
    const prompt = Option.isSome(given) ? given.value : yield* readInput
    if (prompt === "")
      return yield* new UsageError({ reason: "the prompt is empty: give one with --prompt, or pipe it in" })
    return prompt
  })

const readInput = Effect.suspend(() =>
  process.stdin.isTTY
    ? Effect.fail(new UsageError({ reason: "no prompt: give one with --prompt, or pipe it in" }))
    : Effect.tryPromise({
        try: () => text(process.stdin),
        catch: (error) =>
          new UsageError({
            reason: `cannot read the prompt from stdin: ${error instanceof Error ? error.message : error}`,
          }),
      }),
)

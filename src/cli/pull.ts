// chorus pull: brings a model from the Hugging Face hub into the models folder, whole or not at all.
import { Console, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { repositoryName } from "../hub/name.ts"
import { open } from "../model/index.ts"
import { CommandFailed, UsageError } from "./errors.ts"
import { warn } from "./models.ts"
import { bring } from "./named.ts"
import { progressOn } from "./progress.ts"

export const pull = Command.make(
  "pull",
  {
    model: Argument.String("model").pipe(
      Argument.withDescription("OWNER/NAME, and :QUANT where it has GGUF files of several quantisations"),
    ),
  },
  Effect.fnUntraced(function* ({ model }) {
    const name = repositoryName(model)
    if (name === null) return yield* new UsageError({ reason: `${model}: expected OWNER/NAME or OWNER/NAME:QUANT` })
    const [path = ""] = yield* bring([name], progressOn(process.stderr))
    const unfit = ({ message }: Error) => new CommandFailed({ reason: `it is here, but ${message}` })
    yield* Effect.mapError(Effect.tap(open(path), warn), unfit)
    yield* Console.log(`${model} is at ${path}. Try: npx chorus generate --base ${model} --prompt 'def fibonacci(n):'`)
  }),
).pipe(
  Command.withDescription(
    "Bring a model from the Hugging Face hub; HF_ENDPOINT and HF_TOKEN are obeyed, and what was interrupted goes on",
  ),
  Command.withExamples([
    {
      command: "chorus pull Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF:q4_k_m",
      description: "A GGUF file of this quantisation",
    },
    { command: "chorus pull HuggingFaceTB/SmolLM2-135M-Instruct", description: "A folder with safetensors" },
  ]),
)

// chorus deploy: puts a deployment into the bucket that supervisors follow. Nothing has to be restarted for it.
import { Console, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { openDeployments } from "../store/deployments.ts"
import { readDeployment } from "./deploymentFile.ts"
import { onServer, serverFlags } from "./server.ts"

export const deploy = Command.make(
  "deploy",
  {
    file: Argument.String("file").pipe(Argument.withDescription("JSON: name, base.model, and what is not the default")),
    ...serverFlags,
  },
  Effect.fnUntraced(function* ({ file, ...server }) {
    const deployment = yield* readDeployment(file)
    const line = yield* onServer(
      server,
      Effect.gen(function* () {
        const bucket = yield* openDeployments
        const before = yield* bucket.get(deployment.name)
        yield* bucket.put(deployment.name, deployment)
        return `${deployment.name} is ${before === null ? "deployed" : "changed"}. Try: npx chorus ls`
      }),
    )
    yield* Console.log(line)
  }),
).pipe(
  Command.withDescription("Add or change a deployment: its ranks start with the first request and stop when it idles"),
  Command.withExamples([
    {
      command: `echo '{"name": "coder", "base": {"model": "model.gguf"}}' > coder.json; chorus deploy coder.json`,
      description: "The least that a file says",
    },
    { command: "chorus deploy coder.json --nats nats://10.0.0.5:4222", description: "On a server" },
  ]),
)

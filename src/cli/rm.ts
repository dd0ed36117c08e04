// chorus rm: takes a deployment out of the bucket. The sessions that it has end first; then its ranks stop.
import { Console, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { openDeployments } from "../store/deployments.ts"
import { UnknownDeployment } from "../wire/errors.ts"
import { onServer, serverFlags } from "./server.ts"

export const rm = Command.make(
  "rm",
  {
    name: Argument.String("name").pipe(Argument.withDescription("of the deployment")),
    ...serverFlags,
  },
  Effect.fnUntraced(function* ({ name, ...server }) {
    yield* onServer(
      server,
      Effect.gen(function* () {
        const bucket = yield* openDeployments
        if ((yield* bucket.get(name)) === null) return yield* new UnknownDeployment({ deployment: name })
        yield* bucket.remove(name)
      }),
    )
    yield* Console.log(`${name} is removed`)
  }),
).pipe(
  Command.withDescription("Remove a deployment; the sessions that it has end first"),
  Command.withExamples([{ command: "chorus rm coder", description: "By its name" }]),
)

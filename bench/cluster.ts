// A real deployment on this machine for a benchmark: nats-server, ranks and supervisor as processes, gone when it ends.
import { Effect } from "effect"
import { type Client, connect } from "../src/client/index.ts"
import { start } from "../src/local/localCluster.ts"
import type { Deployment } from "../src/wire/deployment.ts"

export const withCluster = <A>(
  deployment: Deployment,
  say: (line: string) => void,
  use: (client: Client) => Promise<A>,
): Promise<A> =>
  Effect.gen(function* () {
    let last = ""
    const report = (doing: string) => {
      if (doing !== last) say(doing)
      last = doing
    }
    const { url, keys, failed } = yield* start(deployment, { nats: null, progress: { report } })
    const measuring = Effect.promise(async () => {
      await using client = await connect({ url, keys, deployment: deployment.name })
      return await use(client)
    })
    return yield* Effect.raceFirst(measuring, failed)
  }).pipe(Effect.scoped, Effect.runPromise)

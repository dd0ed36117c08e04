// A nats-server of one's own, whose end is the end of all that needs it. Only who has its keys gets in, and they are made for
// it alone: other users of this machine reach the port, and nothing behind it.
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Deferred, Effect } from "effect"
import { CONFIG, makeKeys } from "../fabric/keyFolder.ts"
import { start } from "../fabric/natsServer.ts"
import { ActorEnded } from "./actorProcess.ts"

export interface OwnServerOptions {
  readonly ended: Deferred.Deferred<never, ActorEnded>
  readonly deployment: string // whose ranks have a key of their own
  readonly keys?: string // folder that is made for the keys; by default a temporary one
}

export const ownServer = Effect.fnUntraced(function* ({ ended, deployment, keys }: OwnServerOptions) {
  const folder = keys ?? (yield* temporary)
  yield* makeKeys({ folder, deployments: [deployment], clients: [], servers: [] })
  const server = yield* start({ config: join(folder, CONFIG) })
  yield* Effect.forkScoped(
    Effect.flatMap(server.stopped, ({ how, lastLines }) =>
      Deferred.fail(ended, new ActorEnded({ actor: "nats-server", how, said: lastLines.join(" ") })),
    ),
  )
  return { ...server, keys: folder }
})

const temporary = Effect.map(
  Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "chorus-keys-"))),
    (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true })),
  ),
  (folder) => join(folder, "keys"),
)

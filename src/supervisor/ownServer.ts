// A nats-server of one's own as a child. Only who has its keys gets in, and they are made for it alone: other users of this
// machine reach the port, and nothing behind it.
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { CONFIG, makeKeys } from "../fabric/keyFolder.ts"
import { type NatsServerOptions, start } from "../fabric/natsServer.ts"
import { ActorEnded } from "./actorProcess.ts"

/** The folder of keys that are made for a server: a temporary one, where none is named. Its ranks have a key of their own. */
export const keysOf = Effect.fnUntraced(function* (deployment: string, named: string | null) {
  const folder = named ?? (yield* temporary)
  yield* makeKeys({ folder, deployments: [deployment], clients: [], servers: [] })
  return folder
})

export const ownServer = (keys: string, options: NatsServerOptions = {}) =>
  Effect.map(start({ ...options, config: join(keys, CONFIG) }), ({ url, pid, stopped }) => ({
    ...{ url, pid, keys },
    ended: Effect.map(stopped, ({ how, lastLines }) => {
      const said = how.startsWith("signal") ? "" : lastLines.join(" ") // a signal leaves no last words
      return new ActorEnded({ actor: "nats-server", how, said })
    }),
  }))

const temporary = Effect.map(
  Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "chorus-keys-"))),
    (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true })),
  ),
  (folder) => join(folder, "keys"),
)

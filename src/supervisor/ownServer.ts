// A nats-server of one's own. Only who has its keys gets in, and they are made for it alone: other users of this machine reach
// the port, and nothing behind it.
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { CONFIG, makeKeys } from "../fabric/keyFolder.ts"
import { type NatsServerOptions, start } from "../fabric/natsServer.ts"
import { ActorEnded } from "./actorProcess.ts"

export interface OwnKeys {
  readonly deployment: string // whose ranks have a key of their own
  readonly keys?: string // folder that is made for the keys; by default a temporary one
}

/** The folder of its keys. */
export const ownKeys = Effect.fnUntraced(function* ({ deployment, keys }: OwnKeys) {
  const folder = keys ?? (yield* temporary)
  yield* makeKeys({ folder, deployments: [deployment], clients: [], servers: [] })
  return folder
})

/** With these keys; in the place of one that has ended, where it has its port and its store. */
export const ownServer = (keys: string, place: Pick<NatsServerOptions, "port" | "folder" | "orphan"> = {}) =>
  Effect.map(start({ config: join(keys, CONFIG), ...place }), ({ url, pid, stopped }) => ({
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

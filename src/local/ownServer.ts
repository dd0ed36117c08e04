// A nats-server as a child of this process. Only holders of its keys get in, and they are made for it alone: other users of
// this machine reach the port, and nothing behind it.
import { join } from "node:path"
import { Effect } from "effect"
import { ActorEnded } from "../host/process.ts"
import { CONFIG, makeKeys } from "../natsServer/keyFolder.ts"
import { start, temporaryFolder } from "../natsServer/natsServer.ts"

/** Where servers one after the other have their store and their keys. */
interface ServerFolders {
  readonly folder: string
  readonly keys: string
}

/** A new one, with a key of its own for the deployment's ranks. It goes with the scope, and with this process however it ends. */
export const ownFolders = Effect.fnUntraced(function* (deployment: string) {
  const folder = yield* temporaryFolder
  const keys = join(folder, "keys")
  yield* makeKeys({ folder: keys, deployments: [deployment], clients: [], servers: [] })
  return { folder, keys } satisfies ServerFolders
})

export const ownServer = ({ folder, keys }: ServerFolders, port?: number) =>
  Effect.map(
    start({ folder, orphan: "removed", config: join(keys, CONFIG), ...(port === undefined ? {} : { port }) }),
    ({ url, pid, stopped }) => ({
      ...{ url, pid, keys },
      ended: Effect.map(stopped, ({ how, lastLines }) => {
        const said = how.startsWith("signal") ? "" : lastLines.join(" ") // a signal leaves no last words
        return new ActorEnded({ actor: "nats-server", how, said })
      }),
    }),
  )

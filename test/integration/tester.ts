// The eyes and the hands of a test on a server with users: one user more, who may do everything.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { nkeys } from "@nats-io/transport-node"

/** Adds him to the users of a folder of keys; gives the folder of his key, which is shown as a client's. */
export const addTester = (keys: string): string => {
  const pair = nkeys.createUser()
  const users = join(keys, "server/users.conf")
  writeFileSync(
    users,
    readFileSync(users, "utf8").replace("users: [", `users: [\n    { nkey: ${pair.getPublicKey()} }`),
  )
  const folder = join(keys, "tester")
  mkdirSync(folder)
  writeFileSync(join(folder, "client.nk"), pair.getSeed())
  return folder
}

// What a process shows to a NATS server that asks who it is: an nkey, whose seed is a file of its own, and the certificate
// that it trusts. `chorus keys` makes a folder for each role; the environment says where they are.
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { type ConnectionOptions, nkeyAuthenticator, nkeys } from "@nats-io/transport-node"
import { Schema } from "effect"
import { ENVIRONMENT } from "../wire/deployment.ts"
import { inboxPrefixOf, type Role } from "../wire/permissions.ts"

/** Files. Null: the server is asked without. */
export interface Access {
  readonly key: string | null
  readonly ca: string | null
}

/** A server without users. */
export const OPEN: Access = { key: null, ca: null }

export class BadKey extends Schema.TaggedError<BadKey>()("BadKey", { file: Schema.String, reason: Schema.String }) {
  override get message() {
    return `${this.file} is no key for NATS: ${this.reason}. \`chorus keys\` makes keys; ${ENVIRONMENT.natsKey} or --keys says where they are.`
  }
}

export const CA_FILE = "ca.pem"
export const keyFile = (name: string): string => `${name}.nk`

/** A folder of one role, or one that has a folder for each. A process that may only ask shows that key, whatever it runs. */
const accessIn = (folder: string, role: Role): Access => {
  const own = existsSync(join(folder, role)) ? join(folder, role) : folder
  const [ca, key] = [join(own, CA_FILE), join(own, keyFile(role))]
  const asking = join(own, keyFile("client"))
  const shown = role === "operator" && !existsSync(key) && existsSync(asking) ? asking : key
  return { key: shown, ca: existsSync(ca) ? ca : null }
}

/** What this process shows: from the folder that a command was given, else as the environment says. */
export const accessOf = (role: Role, keys: string | null, environment: NodeJS.ProcessEnv): Access => {
  const key = environment[ENVIRONMENT.natsKey] || null
  if (keys === null && key !== null) return { key, ca: environment[ENVIRONMENT.natsCa] || null }
  return keyIn(keys ?? folderOfKeys(environment), role)
}

export const folderOfKeys = (environment: NodeJS.ProcessEnv): string | null => environment[ENVIRONMENT.natsKeys] || null

/** A role's, of a folder that there may be. */
export const keyIn = (folder: string | null, role: Role): Access => (folder === null ? OPEN : accessIn(folder, role))

/** The environment of a process that is to connect with this, and to have nothing else of ours. */
export const natsEnvironment = (url: string, { key, ca }: Access): Readonly<Record<string, string>> => ({
  [ENVIRONMENT.nats]: url,
  [ENVIRONMENT.natsKey]: key ?? "",
  [ENVIRONMENT.natsCa]: ca ?? "",
  [ENVIRONMENT.natsKeys]: "",
})

/** A rank's key: its deployment's own, or the one for those that have none. Both lie beside the host's. */
export const rankAccess = ({ key, ca }: Access, deployment: string): Access => {
  if (key === null) return { key, ca }
  const folder = join(key, "..")
  const own = join(folder, keyFile(`rank-${deployment}`))
  return { key: existsSync(own) ? own : join(folder, keyFile("rank")), ca }
}

/** Options of a connection. The seed is read here and goes nowhere else. */
export const showing = ({ key, ca }: Access): Pick<ConnectionOptions, "authenticator" | "inboxPrefix" | "tls"> => ({
  ...(key === null ? {} : signing(key)),
  ...(ca === null ? {} : { tls: { caFile: ca } }),
})

const signing = (file: string) => {
  try {
    const seed = new TextEncoder().encode(readFileSync(file, "utf8").trim())
    const publicKey = nkeys.fromSeed(seed).getPublicKey()
    return { authenticator: nkeyAuthenticator(seed), inboxPrefix: inboxPrefixOf(publicKey) }
  } catch (error) {
    const missing = error instanceof Error && "code" in error && error.code === "ENOENT"
    throw new BadKey({ file, reason: missing ? "there is no such file" : "it has no seed, which begins with SU" })
  }
}

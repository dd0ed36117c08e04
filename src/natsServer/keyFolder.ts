// Makes the keys of a NATS server's users: a seed for each role, in a folder to hand over to its user, and for the
// server the public keys with what each may do. With TLS, a CA of its own whose key is thrown away once it has signed.
import { execFile } from "node:child_process"
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { isIP } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import { promisify } from "node:util"
import { nkeys } from "@nats-io/transport-node"
import { Effect, Schema } from "effect"
import { CA_FILE, keyFile } from "../bus/access.ts"
import { inboxPrefixOf, permissionsOf, ROLES, type User } from "../wire/permissions.ts"

const NATS_CONF = join(import.meta.dirname, "../../nats.conf")

export class KeysExist extends Schema.TaggedError<KeysExist>()("KeysExist", { folder: Schema.String }) {
  override get message() {
    return `${this.folder} is there already, and nothing in it is overwritten. Choose another --out, or remove it when no process shows its keys any more.`
  }
}

export class KeysFailed extends Schema.TaggedError<KeysFailed>()("KeysFailed", {
  folder: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `the keys in ${this.folder} could not be made: ${this.reason}`
  }
}

export interface KeysWanted {
  readonly folder: string
  readonly deployments: ReadonlyArray<string> // whose ranks have a key of their own
  readonly clients: ReadonlyArray<string> // names; each is a user that sees nothing of the others
  readonly servers: ReadonlyArray<string> // addresses that the certificate is for; none: no TLS
}

/** Of a server that Chorus starts itself, which only this machine reaches. */
export const CONFIG = join("server", "nats.conf")

/** A seed, and where it goes in the folder. */
interface Made {
  readonly user: User
  readonly file: string
  readonly seed: string
}

export const makeKeys = Effect.fn("makeKeys")(function* (wanted: KeysWanted) {
  const folder = resolve(wanted.folder)
  if (existsSync(folder)) return yield* new KeysExist({ folder })
  return yield* Effect.tryPromise({
    try: () => write(folder, wanted),
    catch: (error) => new KeysFailed({ folder, reason: error instanceof Error ? error.message : String(error) }),
  }).pipe(
    Effect.tapError(() => Effect.promise(() => rm(folder, { recursive: true, force: true }))),
    Effect.uninterruptible, // an interrupted half would be written after the clean-up
  )
})

/** Gives the seeds' files. */
const write = async (folder: string, { deployments, clients, servers }: KeysWanted): Promise<ReadonlyArray<string>> => {
  const all: ReadonlyArray<Made> = [
    ...ROLES.filter((role) => role !== "rank" && role !== "client").map((role) =>
      made(role, join(role, keyFile(role))),
    ),
    made("rank", join("host", keyFile("rank"))),
    ...deployments.map((name) => made("rank", join("host", keyFile(`rank-${name}`)), name)),
    ...(clients.length === 0 ? ["client"] : clients.map((name) => `client-${name}`)).map((name) =>
      made("client", join(name, keyFile("client"))),
    ),
  ]
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const put = async (file: string, text: string): Promise<void> => {
    await mkdir(join(folder, dirname(file)), { recursive: true, mode: 0o700 })
    await writeFile(join(folder, file), text, { mode: 0o600, flag: "wx" })
  }
  for (const { file, seed, user } of all) {
    await put(file, `${seed}\n`)
    if (user.role === "client" || user.role === "operator")
      await put(join(dirname(file), "inbox"), `${inboxPrefixOf(user.publicKey)}\n`)
  }
  await put(join("server", "users.conf"), usersConf(all))
  await put(CONFIG, await serverConf(folder, servers.length > 0))
  if (servers.length > 0) {
    const { ca, certificate, key } = await certificates(servers)
    const holders = new Set(["server", ...all.map(({ file }) => dirname(file))])
    for (const holder of holders) await put(join(holder, CA_FILE), ca)
    await put(join("server", "server.pem"), certificate)
    await put(join("server", "server-key.pem"), key)
  }
  return all.map(({ file }) => file)
}

/** Adds a user that may do everything, for a run that inspects everything; returns the folder of its key, shown as a client's. */
export const addOverseer = (folder: string): string => {
  const pair = nkeys.createUser()
  const users = join(folder, "server", "users.conf")
  writeFileSync(users, readFileSync(users, "utf8").replace(USERS, `${USERS}\n    { nkey: ${pair.getPublicKey()} }`))
  const own = join(folder, "overseer")
  mkdirSync(own, { mode: 0o700 })
  writeFileSync(join(own, keyFile("client")), pair.getSeed(), { mode: 0o600 })
  const ca = join(folder, "server", CA_FILE)
  if (existsSync(ca)) copyFileSync(ca, join(own, CA_FILE))
  return own
}

/** The line of users.conf that they follow. */
const USERS = "  users: ["

const made = (role: User["role"], file: string, deployment: string | null = null): Made => {
  const pair = nkeys.createUser()
  const seed = new TextDecoder().decode(pair.getSeed())
  return { user: { role, publicKey: pair.getPublicKey(), deployment }, file, seed }
}

const quoted = (subjects: ReadonlyArray<string>): string => `[${subjects.map((subject) => `"${subject}"`).join(", ")}]`

/** Public keys only: a reader of this file can show none of them. */
const usersConf = (all: ReadonlyArray<Made>): string => {
  const users = all.map(({ user }) => user)
  const lines = all.map(({ user, file }) => {
    const { publish, neverPublish, subscribe, neverSubscribe, answers } = permissionsOf(user, users)
    const side = (allow: ReadonlyArray<string>, deny: ReadonlyArray<string>): string =>
      `{ allow: ${quoted(allow)}${deny.length > 0 ? `, deny: ${quoted(deny)}` : ""} }`
    const responses = answers === null ? "" : `,\n        allow_responses: { max: ${answers}, expires: "5m" }`
    return [
      `    { # ${file}`,
      `      nkey: ${user.publicKey}`,
      "      permissions: {",
      `        publish: ${side(publish, neverPublish)},`,
      `        subscribe: ${side(subscribe, neverSubscribe)}${responses}`,
      "      }",
      "    }",
    ].join("\n")
  })
  return [
    "# The users of a NATS server of Chorus, and what each may do: made by `chorus keys`. To be included by its configuration.",
    "authorization {",
    "  timeout: 10 # seconds that a client may take to show its key: on a busy machine two are few",
    USERS,
    ...lines,
    "  ]",
    "}",
    "",
  ].join("\n")
}

const serverConf = async (folder: string, tls: boolean): Promise<string> => {
  const file = (name: string): string => JSON.stringify(join(folder, "server", name))
  const secured = tls ? [`tls { cert_file: ${file("server.pem")}, key_file: ${file("server-key.pem")} }`, ""] : []
  return ['include "users.conf"', "", ...secured, await readFile(NATS_CONF, "utf8")].join("\n")
}

const DAYS = "3650"
const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]

/** By openssl: Node makes keys, not certificates. */
const certificates = async (servers: ReadonlyArray<string>) => {
  const scratch = await mkdtemp(join(tmpdir(), "chorus-ca-"))
  const openssl = (...args: ReadonlyArray<string>) => promisify(execFile)("openssl", args, { cwd: scratch })
  // The NATS client holds a server that it reaches by an address to the name localhost.
  const names = [...new Set(["localhost", ...servers])].map(
    (server) => `${isIP(server) === 0 ? "DNS" : "IP"}:${server}`,
  )
  // A server of a cluster shows it to the others, too, and then as a client.
  const extensions = `subjectAltName=${names.join(",")}\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n`
  try {
    await writeFile(join(scratch, "server.ext"), extensions)
    const authority = ["-addext", "keyUsage=critical,keyCertSign"] // what else a CA needs is the default
    const days = ["-days", DAYS]
    await openssl(
      "req",
      "-x509",
      ...NEW_KEY,
      ...authority,
      ...days,
      "-subj",
      "/CN=Chorus CA",
      "-keyout",
      "ca.key",
      "-out",
      "ca.pem",
    )
    await openssl("req", ...NEW_KEY, "-subj", "/CN=Chorus NATS", "-keyout", "server.key", "-out", "server.csr")
    const signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", ...days, "-extfile", "server.ext"]
    await openssl("x509", "-req", "-in", "server.csr", ...signed, "-out", "server.pem")
    const read = (file: string) => readFile(join(scratch, file), "utf8")
    return { ca: await read("ca.pem"), certificate: await read("server.pem"), key: await read("server.key") }
  } catch (error) {
    const missing = error instanceof Error && "code" in error && error.code === "ENOENT"
    throw missing
      ? new Error("there is no openssl, which makes the certificate. apt-get install openssl brings it")
      : error
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

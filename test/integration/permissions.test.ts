// Every act of permissions.ts, tried as every role on a real nats-server with the users that `chorus keys` makes: what a role
// needs is let through, everything else is refused. And the ways around: inboxes of others, other deployments.
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInbox, type NatsConnection, PermissionViolationError } from "@nats-io/transport-node"
import { Effect, Exit, Scope } from "effect"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { keyIn, natsEnvironment, OPEN } from "../../src/bus/access.ts"
import { dial, inboxOf } from "../../src/bus/dial.ts"
import { startActor } from "../../src/host/process.ts"
import { CONFIG, makeKeys } from "../../src/natsServer/keyFolder.ts"
import { start } from "../../src/natsServer/natsServer.ts"
import { ROLES, type Role } from "../../src/wire/permissions.ts"
import { ACTS, type Act } from "./permissions.ts"

const ROOT = join(import.meta.dirname, "../..")

/** A user's connection, and what it was refused. */
class Tried implements AsyncDisposable {
  readonly connection: NatsConnection
  readonly #refused = new Set<string>()

  static async as(url: string, key: string, ca: string | null = null): Promise<Tried> {
    return new Tried(await dial({ url, access: { key, ca }, noAsyncTraces: true }))
  }

  private constructor(connection: NatsConnection) {
    this.connection = connection
    const watch = async () => {
      for await (const status of connection.status()) {
        if (status.type !== "error" || !(status.error instanceof PermissionViolationError)) continue
        this.#refused.add(`${status.error.operation} ${status.error.subject}`)
      }
    }
    void watch()
  }

  /** Whether the server let it through: it says no before it answers the ping behind. */
  async may(how: Act["how"], subject: string): Promise<boolean> {
    if (how === "publish") this.connection.publish(subject, "{}")
    const subscription = how === "subscribe" ? this.connection.subscribe(subject, { callback: () => {} }) : undefined
    await this.connection.flush()
    await new Promise((seen) => setImmediate(seen)) // the status is read by an iterator
    const refused = this.#refused.has(`${how === "publish" ? "publish" : "subscription"} ${subject}`)
    if (!refused) subscription?.unsubscribe()
    return !refused
  }

  async [Symbol.asyncDispose]() {
    await this.connection.close()
  }
}

const folder = mkdtempSync(join(tmpdir(), "chorus-test-keys-"))
const keys = join(folder, "keys")
const scope = Scope.makeUnsafe()
const keyOf = (role: Role): string => join(keys, role === "rank" ? "host" : role, `${role}.nk`)
const inScope = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>): Promise<A> =>
  Effect.runPromise(Scope.provide(effect, scope))
let url: string

beforeAll(async () => {
  const wanted = { folder: keys, deployments: ["coder"], clients: [], servers: [] }
  await Effect.runPromise(makeKeys(wanted))
  url = (await inScope(start({ config: join(keys, CONFIG) }))).url
})
afterAll(async () => {
  await Effect.runPromise(Scope.close(scope, Exit.void))
  rmSync(folder, { recursive: true })
})

describe.each(ROLES)("a %s", (role) => {
  test("may do what it needs, and nothing else", async () => {
    await using user = await Tried.as(url, keyOf(role))
    const expected = ACTS.flatMap(({ how, subjects, by }) =>
      subjects.map((subject) => [how, subject, by.includes(role)]),
    )
    const seen: Array<unknown> = []
    for (const { how, subjects } of ACTS) {
      for (const subject of subjects) seen.push([how, subject, await user.may(how, subject)])
    }
    expect(seen).toEqual(expected)
  })

  test("hears answers in its own inbox, and in no other", async () => {
    await using user = await Tried.as(url, keyOf(role))
    expect(await user.may("subscribe", inboxOf(user.connection))).toBe(true)
    for (const other of ROLES.filter((other) => other !== role)) {
      await using another = await Tried.as(url, keyOf(other))
      const inbox = inboxOf(another.connection)
      expect(await user.may("subscribe", inbox)).toBe(false)
      expect(await user.may("subscribe", inbox.replace(/[^.]+$/, ">"))).toBe(false)
    }
    expect(await user.may("subscribe", createInbox())).toBe(false)
  })
})

test("ranks of a deployment with a key of its own neither hear nor reach others, nor others them", async () => {
  await using coder = await Tried.as(url, join(keys, "host/rank-coder.nk"))
  await using rank = await Tried.as(url, keyOf("rank"))
  await using supervisor = await Tried.as(url, keyOf("supervisor"))
  for (const [own, other, user] of [
    ["coder", "demo", coder],
    ["demo", "coder", rank],
  ] as const) {
    for (const [how, what] of [
      ["publish", "group.1.base.act"],
      ["publish", "beat.1.base.0"],
      ["subscribe", "group.1.base.act"],
    ] as const) {
      expect(await user.may(how, `chorus.v1.${own}.${what}`), `${own}: ${what}`).toBe(true)
      expect(await user.may(how, `chorus.v1.${other}.${what}`), `${own} at ${other}: ${what}`).toBe(false)
    }
  }
  const heard: Array<string> = []
  rank.connection.subscribe("chorus.v1.*.group.*.*.pass", {
    callback: (error, { subject }) => void (error ?? heard.push(subject)),
  })
  await rank.connection.flush()
  for (const deployment of ["coder", "demo"]) supervisor.connection.publish(`chorus.v1.${deployment}.group.1.base.pass`)
  await supervisor.connection.flush()
  await rank.connection.flush()
  expect(heard).toEqual(["chorus.v1.demo.group.1.base.pass"])
})

test("docs/NATS.md has the same table", () => {
  const text = readFileSync(join(ROOT, "docs/NATS.md"), "utf8")
  for (const { what, by } of ACTS)
    expect(text).toContain(
      `| ${[what, ...ROLES.map((role) => (by.includes(role) ? "yes" : "")), ""].join(" | ")}`.trimEnd(),
    )
})

describe("keys", () => {
  test("are the owner's alone, and never written over", async () => {
    for (const role of ROLES) expect(statSync(keyOf(role)).mode & 0o777).toBe(0o600)
    expect(statSync(keys).mode & 0o777).toBe(0o700)
    const again = makeKeys({ folder: keys, deployments: [], clients: [], servers: [] })
    expect(await Effect.runPromise(Effect.flip(again))).toMatchObject({ _tag: "KeysExist", folder: keys })
  })

  test("that are wrong, missing or not there are named, with what to do", async () => {
    const refused = (access: { key: string | null; ca: string | null }) =>
      dial({ url, access }).then(
        () => null,
        (error: unknown) => error,
      )
    expect(await refused(OPEN)).toMatchObject({ _tag: "NatsRefused", message: expect.stringMatching(/--keys FOLDER/) })
    const others = join(folder, "others")
    await Effect.runPromise(makeKeys({ folder: others, deployments: [], clients: ["alice"], servers: [] }))
    const key = join(others, "client-alice/client.nk")
    const wrong = await refused({ key, ca: null })
    expect(wrong).toMatchObject({ _tag: "NatsRefused", key, message: expect.stringMatching(/does not know the key/) })
    expect(String(wrong)).not.toContain(readFileSync(key, "utf8").trim())
    expect(await refused({ key: join(folder, "no.nk"), ca: null })).toMatchObject({ _tag: "BadKey" })
    expect(await refused({ key: join(keys, "server/users.conf"), ca: null })).toMatchObject({ _tag: "BadKey" })
  })

  test("with TLS: a client that trusts the CA gets in, one that does not is told which file holds the CA", async () => {
    const tls = join(folder, "tls")
    await Effect.runPromise(makeKeys({ folder: tls, deployments: [], clients: [], servers: ["127.0.0.1"] }))
    const server = await inScope(start({ config: join(tls, CONFIG) }))
    const [key, ca] = [join(tls, "client/client.nk"), join(tls, "client/ca.pem")]
    await using user = await Tried.as(server.url, key, ca)
    expect(await user.may("publish", "chorus.v1.demo.infer")).toBe(true)
    await expect(dial({ url: server.url, access: { key, ca: null } })).rejects.toMatchObject({ _tag: "NatsUntrusted" })
    const others = join(folder, "others-tls")
    await Effect.runPromise(makeKeys({ folder: others, deployments: [], clients: [], servers: ["127.0.0.1"] }))
    const strange = { key, ca: join(others, "client/ca.pem") }
    await expect(dial({ url: server.url, access: strange })).rejects.toMatchObject({ _tag: "NatsUntrusted" })
  })
})

test("a process whose key the server does not know any more says so and ends", async () => {
  const [one, two] = [join(folder, "one"), join(folder, "two")]
  for (const made of [one, two]) {
    await Effect.runPromise(makeKeys({ folder: made, deployments: [], clients: [], servers: [] }))
  }
  const server = await inScope(start({ config: join(one, CONFIG) }))
  const environment = {
    ...natsEnvironment(server.url, keyIn(one, "host")),
    CHORUS_HOST: JSON.stringify({ name: "one" }),
  }
  const host = await inScope(startActor({ name: "a host", file: "host.ts", environment }))
  await Effect.runPromise(host.ready)
  cpSync(join(two, "server/users.conf"), join(one, "server/users.conf"))
  process.kill(server.pid, "SIGHUP")
  expect((await Effect.runPromise(host.ended)).message).toMatch(/does not know the key .*host\.nk/)
})

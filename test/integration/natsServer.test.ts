// Goal: the server that Chorus starts is a real one that keeps what it acknowledges, ends with its parent whatever ends
// that, and leaves nothing behind; where it cannot be started, the error says what to do.
import { execFileSync, spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { expect, it } from "@effect/vitest"
import { jetstream, jetstreamManager } from "@nats-io/jetstream"
import { connect, type NatsConnection } from "@nats-io/transport-node"
import { Effect, Exit, Scope } from "effect"
import { afterEach } from "vitest"
import { type NatsServerOptions, start } from "../../src/natsServer/natsServer.ts"

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const connected = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(() => connect({ servers: url, reconnect: false })),
    (connection: NatsConnection) => Effect.promise(() => connection.close()),
  )

const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "chorus-test-"))),
  (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true })),
)

const withServerAt = (path: string, options: NatsServerOptions = {}) =>
  Effect.suspend(() => {
    process.env.CHORUS_NATS_SERVER = path
    return Effect.flip(start(options))
  })

afterEach(() => {
  delete process.env.CHORUS_NATS_SERVER
  delete process.env.TMPDIR
})

it.live("serves JetStream on a free port of this machine, and is gone with its folder when the scope closes", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const server = yield* Scope.provide(start(), scope)
    yield* Effect.scoped(
      Effect.gen(function* () {
        const connection = yield* connected(server.url)
        expect(connection.info?.max_payload).toBe(8 * 1024 * 1024)
        expect(connection.info?.host).toBe("127.0.0.1")
        const manager = yield* Effect.promise(() => jetstreamManager(connection))
        yield* Effect.promise(() => manager.streams.add({ name: "LOG", subjects: ["log"] }))
        const acknowledged = yield* Effect.promise(() => jetstream(connection).publish("log", "a"))
        expect(acknowledged.seq).toBe(1)
      }),
    )
    expect(alive(server.pid)).toBe(true)
    yield* Scope.close(scope, Exit.void)
    expect(alive(server.pid)).toBe(false)
    expect(existsSync(server.folder)).toBe(false)
  }),
)

it.live("keeps its store in a folder that it is given, and finds it there on the same port", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder
    const port = yield* Effect.scoped(
      Effect.gen(function* () {
        const server = yield* start({ folder })
        const connection = yield* connected(server.url)
        const manager = yield* Effect.promise(() => jetstreamManager(connection))
        yield* Effect.promise(() => manager.streams.add({ name: "LOG", subjects: ["log"] }))
        yield* Effect.promise(() => jetstream(connection).publish("log", "kept"))
        return Number(new URL(server.url).port)
      }),
    )
    expect(yield* Effect.promise(() => readdir(join(folder, ".chorus")))).toEqual(["jetstream"])
    const again = yield* start({ folder, port })
    expect(again.url).toBe(`nats://127.0.0.1:${port}`)
    const manager = yield* Effect.promise(async () =>
      jetstreamManager(await connect({ servers: again.url, reconnect: false })),
    )
    const info = yield* Effect.promise(() => manager.streams.info("LOG"))
    expect(info.state.messages).toBe(1)
  }),
)

it.live("tells that the server stopped, and how", () =>
  Effect.gen(function* () {
    const server = yield* start()
    process.kill(server.pid, "SIGKILL")
    const stopped = yield* server.stopped
    expect(stopped.message).toContain(`the nats-server at ${server.url} stopped: signal 9`)
    expect(existsSync(server.folder)).toBe(false)
  }),
)

// A parent that prints what it started and then stays; it is killed from outside.
const parent = `
import { Effect } from "effect"
import { start } from "./src/natsServer/natsServer.ts"
await Effect.runPromise(Effect.scoped(Effect.gen(function* () {
  const { pid, folder } = yield* start()
  console.log(JSON.stringify({ pid, folder }))
  yield* Effect.never
})))
`

it.live("goes with its parent and leaves no folder, when the parent is killed by SIGKILL", () =>
  Effect.promise(async () => {
    const child = spawn(process.execPath, ["--input-type=module", "--eval", parent], {
      stdio: ["ignore", "pipe", "inherit"],
    })
    const line = await new Promise<string>((resolve) => child.stdout.once("data", (chunk) => resolve(String(chunk))))
    const server: { pid: number; folder: string } = JSON.parse(line)
    expect(alive(server.pid)).toBe(true)
    child.kill("SIGKILL")
    await expect.poll(() => alive(server.pid)).toBe(false)
    await expect.poll(() => existsSync(server.folder)).toBe(false)
  }),
)

const children = (pid: number): ReadonlyArray<number> =>
  execFileSync("ps", ["-o", "pid=", "--ppid", `${pid}`], { encoding: "utf8" })
    .trim()
    .split(/\s+/)
    .map(Number)

const parentOf = (pid: number): number =>
  Number(execFileSync("ps", ["-o", "ppid=", "-p", `${pid}`], { encoding: "utf8" }))

it.live(
  "does not remove the store under the next server, when the shell that guards the first is killed by SIGKILL",
  () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const first = yield* start({ folder, orphan: "removed" })
      const guard = parentOf(first.pid)
      const watch = children(guard).filter((pid) => pid !== first.pid)
      expect(watch).toHaveLength(1)
      process.kill(guard, "SIGKILL")
      const stopped = yield* first.stopped
      expect(stopped.how).toBe("its guard was killed")
      expect(alive(first.pid)).toBe(false)
      const next = yield* start({ folder, orphan: "removed", port: Number(new URL(first.url).port) })
      yield* Effect.promise(() => expect.poll(() => watch.filter(alive)).toEqual([]))
      expect(yield* Effect.promise(() => readdir(join(folder, ".chorus")))).toEqual(["jetstream"])
      expect(alive(next.pid)).toBe(true)
    }),
)

it.live("refuses a server that is too old, with the reason", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder
    const path = join(folder, "nats-server")
    yield* Effect.promise(() => writeFile(path, "#!/bin/sh\necho nats-server: v2.9.10\n"))
    yield* Effect.promise(() => chmod(path, 0o755))
    const error = yield* withServerAt(path)
    expect(error._tag).toBe("NatsServerTooOld")
    expect(error.message).toContain(`${path} is nats-server 2.9.10; before 2.12.2 a crash could lose accepted tokens`)
  }),
)

it.live("says how to get a server when there is none", () =>
  Effect.gen(function* () {
    const error = yield* withServerAt("/nowhere/nats-server")
    expect(error._tag).toBe("NatsServerMissing")
    expect(error.message).toContain("no nats-server in /nowhere/nats-server. `npm run setup` brings one")
  }),
)

it.live("shows the server's own words when it does not start, and leaves no folder", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder
    process.env.TMPDIR = folder
    const first = yield* start()
    const error = yield* Effect.flip(Effect.scoped(start({ port: Number(new URL(first.url).port) })))
    expect(error._tag).toBe("NatsServerFailed")
    expect(error.message).toContain("address already in use")
    expect(yield* Effect.promise(() => readdir(folder))).toEqual([basename(first.folder)])
  }),
)

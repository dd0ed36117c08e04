// The NATS servers of an installation: one, or a cluster of three on which what is stored has three copies. Each has a disk
// of its own where this machine lets us make one, so that it can be filled.
import { spawn } from "node:child_process"
import { randomInt } from "node:crypto"
import { once } from "node:events"
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import { start } from "../natsServer/natsServer.ts"
import { type Kept, keepRunning } from "./operator.ts"

export interface ServersOptions {
  readonly folder: string
  readonly config: string // path
  readonly count: 1 | 3
  readonly disks: boolean // whether each is to have one of its own
  readonly accident: (what: string) => void
}

export interface Server {
  readonly kept: Kept
  readonly port: number
  readonly isHealthy: () => Promise<boolean>
  /** Monitoring's answer to a path. */
  readonly monitor: (path: string) => Promise<unknown>
  readonly fillDisk: () => void
  readonly freeDisk: () => void
}

/** Started, and kept running until the scope closes. */
export const servers = Effect.fnUntraced(function* ({ folder, config, count, disks, accident }: ServersOptions) {
  const ports = yield* Effect.promise(() => freePorts(3 * count))
  const port = (kind: number, server: number): number => ports[kind * count + server] ?? 0
  const routes = Array.from({ length: count }, (_, i) => `nats://127.0.0.1:${port(1, i)}`)
  const clustered = (route: string) => [
    ...["--cluster_name", "chorus", "--cluster", route, "--routes", routes.join(",")],
    "--no_advertise=true", // clients would find ways around their proxies
  ]
  return yield* Effect.forEach(routes, (route, i) =>
    server(
      {
        ...{ name: `nats-${i + 1}`, config, port: port(0, i), http: port(2, i), folder: join(folder, `nats-${i + 1}`) },
        cluster: count === 1 ? [] : clustered(route),
      },
      disks,
      accident,
    ),
  )
})

interface ServerSpec {
  readonly name: string
  readonly config: string
  readonly port: number
  readonly http: number
  readonly folder: string
  readonly cluster: ReadonlyArray<string> // of its command line
}

const server = Effect.fnUntraced(function* (place: ServerSpec, disks: boolean, accident: (what: string) => void) {
  const { name, config, port, http, folder, cluster } = place
  mkdirSync(folder)
  const disk = join(folder, ".chorus") // where nats.conf has the store
  mkdirSync(disk)
  if (disks) yield* mounted(disk)
  const args = ["--name", name, "--addr", "127.0.0.1", "--http_port", `${http}`, ...cluster]
  const kept = yield* keepRunning(
    {
      ...{ name, role: "server" },
      start: Effect.map(start({ config, port, folder, args }), ({ pid, stopped }) => ({
        ...{ pid, ready: Effect.void },
        ended: Effect.map(stopped, ({ message }) => message),
      })),
    },
    accident,
  )
  const monitor = async (path: string): Promise<unknown> => (await fetch(`http://127.0.0.1:${http}${path}`)).json()
  const balloon = join(disk, "balloon")
  const served: Server = {
    ...{ kept, port, monitor },
    isHealthy: () =>
      fetch(`http://127.0.0.1:${http}/healthz`, { signal: AbortSignal.timeout(1_000) }).then(
        ({ status }) => status === 200,
        () => false,
      ),
    fillDisk: () => blowUp(balloon),
    freeDisk: () => rmSync(balloon, { force: true }),
  }
  return served
})

class NotHealthy extends Schema.TaggedError<NotHealthy>()("NotHealthy", { millis: Schema.Int }) {
  override get message() {
    return `the NATS servers of the run were not healthy within ${this.millis / 1_000} s. Is the machine too busy?`
  }
}

const HEALTHY_MILLIS = 60_000
const HEALTHY_AGAIN_MILLIS = 100

/** Ends when all of them are. */
export const healthy = (all: ReadonlyArray<Server>) =>
  Effect.gen(function* () {
    const look = Effect.promise(() => Promise.all(all.map((server) => server.isHealthy())))
    while (!(yield* look).every((healthy) => healthy)) yield* Effect.sleep(HEALTHY_AGAIN_MILLIS)
  }).pipe(
    Effect.timeoutOrElse({
      duration: HEALTHY_MILLIS,
      orElse: () => Effect.fail(new NotHealthy({ millis: HEALTHY_MILLIS })),
    }),
  )

/** Enough for the logs of a run, little enough to be filled in a moment. */
const DISK_MEBIBYTES = 192

/** Mounts a file system in memory at "$1"; our end of its stdin closes when this process ends, even by SIGKILL, and the mount goes. */
const MOUNT = `
mount -t tmpfs -o size=${DISK_MEBIBYTES}m tmpfs "$1" || exit 1
echo mounted
read -r _
umount --lazy "$1"
`

const mounted = (folder: string) =>
  Effect.acquireRelease(
    Effect.promise(() => mount(folder)),
    (mount) => Effect.promise(() => mount.end()),
  )

interface Mount {
  readonly done: boolean
  readonly end: () => Promise<void>
}

const mount = async (folder: string): Promise<Mount> => {
  const holder = spawn("/bin/sh", ["-c", MOUNT, "a disk", folder], {
    stdio: ["pipe", "pipe", "ignore"],
    detached: true, // the terminal's Ctrl-C is for us; disks go last
  })
  holder.stdin.on("error", () => {})
  const ended = once(holder, "close")
  const done = await Promise.race([once(holder.stdout, "data").then(() => true), ended.then(() => false)])
  const end = async (): Promise<void> => {
    holder.stdin.end()
    await ended
  }
  return { done, end }
}

/** Whether disks can be mounted here: Linux, and root. */
export const canMount = async (folder: string): Promise<boolean> => {
  const { done, end } = await mount(folder)
  await end()
  return done
}

/** Writes a file until there is no room. */
const blowUp = (file: string): void => {
  const descriptor = openSync(file, "w")
  try {
    for (const piece of [1 << 20, 1 << 12]) writeAll(descriptor, Buffer.alloc(piece))
  } finally {
    closeSync(descriptor)
  }
}

const writeAll = (descriptor: number, bytes: Buffer): void => {
  try {
    while (writeSync(descriptor, bytes) === bytes.byteLength);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error
  }
}

/** Below those that systems give to outgoing connections: one of these would take the port of a server that is down. */
const [LEAST_PORT, MOST_PORT] = [10_000, 32_000]

/** This many free ports. */
export const freePorts = async (count: number): Promise<ReadonlyArray<number>> => {
  const ports = new Set<number>()
  while (ports.size < count) {
    const port = randomInt(LEAST_PORT, MOST_PORT)
    if (await isFree(port)) ports.add(port)
  }
  return [...ports]
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = createServer()
    probe.once("error", () => resolve(false))
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)))
  })

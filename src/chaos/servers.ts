// The NATS servers of an installation: one, or a cluster of three on which what is stored has three copies. Each has a disk
// of its own where this machine lets us make one, so that it can be filled.
import { execFileSync } from "node:child_process"
import { once } from "node:events"
import { closeSync, copyFileSync, cpSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { Effect } from "effect"
import { CONFIG } from "../fabric/keyFolder.ts"
import { start } from "../fabric/natsServer.ts"
import { type Kept, keepRunning } from "./operator.ts"

const ROOT = join(import.meta.dirname, "../..")

export interface ServersOptions {
  readonly folder: string
  readonly keys: string // folder, with the users of all servers
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
export const servers = Effect.fnUntraced(function* ({ folder, keys, count, disks, accident }: ServersOptions) {
  const ports = yield* Effect.promise(() => freePorts(3 * count))
  const port = (kind: number, server: number): number => ports[kind * count + server] ?? 0
  const routes = Array.from({ length: count }, (_, i) => `nats://127.0.0.1:${port(1, i)}`)
  const clustered = (route: string) => [
    ...["--cluster", route, "--routes", routes.join(",")],
    ...["--no_advertise=true", "--store_dir", ".chorus"], // clients would find ways around their proxies
  ]
  return yield* Effect.forEach(routes, (route, i) =>
    server(
      {
        ...{ name: `nats-${i + 1}`, port: port(0, i), http: port(2, i), folder: join(folder, `nats-${i + 1}`), keys },
        cluster: count === 1 ? [] : clustered(route),
      },
      disks,
      accident,
    ),
  )
})

interface Place {
  readonly name: string
  readonly port: number
  readonly http: number
  readonly folder: string
  readonly keys: string
  readonly cluster: ReadonlyArray<string> // of its command line
}

const server = Effect.fnUntraced(function* (place: Place, disks: boolean, accident: (what: string) => void) {
  const { name, port, http, folder, keys, cluster } = place
  mkdirSync(folder)
  const disk = join(folder, ".chorus") // where nats.conf has the store; a cluster's has to be told
  mkdirSync(disk)
  if (disks) yield* mounted(disk)
  const args = ["--name", name, "--addr", "127.0.0.1", "--http_port", `${http}`, ...cluster]
  const config = cluster.length === 0 ? join(keys, CONFIG) : clusterConfig(folder, keys)
  const kept = yield* keepRunning(
    {
      ...{ name, role: "server" },
      start: Effect.map(start({ port, folder, config, args }), ({ pid, stopped }) => ({
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

/** As its first lines say: beside its keys, in the folder that the server is started in. */
const clusterConfig = (folder: string, keys: string): string => {
  const config = join(folder, "cluster.conf")
  copyFileSync(join(ROOT, "infra/nats/cluster.conf"), config)
  cpSync(join(keys, "server"), join(folder, "keys"), { recursive: true })
  return config
}

/** Enough for the logs of a run, little enough to be filled in a moment. */
const DISK_MEBIBYTES = 192

const mounted = (folder: string) =>
  Effect.acquireRelease(
    Effect.sync(() => mount(folder)),
    () => Effect.sync(() => execFileSync("umount", ["--lazy", folder])),
  )

const mount = (folder: string): void => {
  const options = ["-t", "tmpfs", "-o", `size=${DISK_MEBIBYTES}m`, "tmpfs", folder]
  execFileSync("mount", options, { stdio: "ignore" })
}

/** Whether disks can be mounted here: Linux, and root. */
export const canMount = (folder: string): boolean => {
  try {
    mount(folder)
    execFileSync("umount", [folder])
    return true
  } catch {
    return false
  }
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

/** So many ports that nobody listens on. */
export const freePorts = async (count: number): Promise<ReadonlyArray<number>> => {
  const listening = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, "127.0.0.1")
      await once(server, "listening")
      return server
    }),
  )
  const ports = listening.map((server) => {
    const address = server.address()
    return typeof address === "object" && address !== null ? address.port : 0
  })
  await Promise.all(listening.map((server) => once(server.close(), "close")))
  return ports
}

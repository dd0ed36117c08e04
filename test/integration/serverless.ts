// Hosts and supervisors as processes of their own on one nats-server, deployments in its bucket: several hosts on this
// machine stand in for several machines.
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { RequestError } from "@nats-io/transport-node"
import { Effect, Exit, Layer, Scope, Stream, SubscriptionRef } from "effect"
import { keyIn, natsEnvironment } from "../../src/bus/access.ts"
import { type Client, connect } from "../../src/client/index.ts"
import { type Hosts, watchHosts } from "../../src/host/hosts.ts"
import { type ActorProcess, startActor } from "../../src/host/process.ts"
import { addOverseer, CONFIG, makeKeys } from "../../src/natsServer/keyFolder.ts"
import type { Bucket, Entries } from "../../src/store/bucket.ts"
import { openBuckets } from "../../src/store/deployments.ts"
import { onNats } from "../../src/store/jetStream.ts"
import { ENVIRONMENT, type Scaling, type StoredDeployment } from "../../src/wire/deployment.ts"
import type { HostBeat } from "../../src/wire/host.ts"
import type { Role } from "../../src/wire/permissions.ts"
import { COLD, type Replicas } from "../../src/wire/replicas.ts"
import { subjectsOf } from "../../src/wire/subjects.ts"
import { type ClusterOptions, deploymentOf } from "./cluster.ts"
import { Server } from "./rankGroup.ts"

export interface HostSettings {
  readonly name: string
  readonly cores?: number
  readonly memory?: number
  readonly drainMillis?: number
}

export interface FleetOptions {
  readonly hosts: ReadonlyArray<HostSettings>
  readonly supervisors?: number
  readonly args?: ReadonlyArray<string> // of its nats-server
}

export const storedOf = (
  options: ClusterOptions,
  scaling: Partial<Scaling & Pick<StoredDeployment, "queue" | "kvTokens">> = {},
): StoredDeployment => ({
  ...deploymentOf(options),
  ...{ idleTimeoutMillis: 600_000, replicas: { min: 0, max: 1, sessions: 8 } },
  ...scaling,
})

/** A process that a test may kill, and its own scope. */
interface Own {
  readonly actor: ActorProcess
  readonly scope: Scope.Closeable
}

export class Fleet implements AsyncDisposable {
  readonly url: string
  readonly hosts = new Map<string, Own>()
  readonly supervisors: Array<Own> = []
  readonly keys: string // folder: what its processes show
  readonly #server: Server
  readonly #folder: string
  readonly #scope: Scope.Closeable
  readonly #clients: Array<Client> = []
  readonly #deployments: Bucket<StoredDeployment>
  readonly #records: SubscriptionRef.SubscriptionRef<Entries<Replicas>>
  readonly #seen: Hosts

  static async start({ hosts, supervisors = 1, args = [] }: FleetOptions): Promise<Fleet> {
    const folder = await mkdtemp(join(tmpdir(), "chorus-test-fleet-"))
    const keys = join(folder, "keys")
    await Effect.runPromise(makeKeys({ folder: keys, deployments: [], clients: [], servers: [] }))
    const overseer = addOverseer(keys)
    const server = await Server.start({ config: join(keys, CONFIG), args })
    const scope = Scope.makeUnsafe()
    const watching = Effect.gen(function* () {
      const fabric = yield* Layer.build(onNats({ url: server.url, name: "test", role: "client", keys: overseer }))
      return yield* Effect.provide(
        Effect.gen(function* () {
          const { deployments, replicas } = yield* openBuckets
          return { deployments, records: yield* replicas.follow, seen: yield* watchHosts(() => {}) }
        }),
        fabric,
      )
    })
    const { deployments, records, seen } = await Effect.runPromise(Scope.provide(watching, scope))
    const fleet = new Fleet(server, folder, scope, deployments, records, seen)
    await Promise.all([
      ...hosts.map((host) => fleet.host(host)),
      ...Array.from({ length: supervisors }, () => fleet.supervisor()),
    ])
    return fleet
  }

  private constructor(
    server: Server,
    folder: string,
    scope: Scope.Closeable,
    deployments: Bucket<StoredDeployment>,
    records: SubscriptionRef.SubscriptionRef<Entries<Replicas>>,
    seen: Hosts,
  ) {
    this.#server = server
    this.#folder = folder
    this.keys = join(folder, "keys")
    this.#scope = scope
    this.#deployments = deployments
    this.#records = records
    this.#seen = seen
    this.url = server.url
  }

  async host(settings: HostSettings): Promise<void> {
    const environment = { ...this.#nats("host"), [ENVIRONMENT.host]: JSON.stringify(settings) }
    this.hosts.set(settings.name, await this.#start(`host ${settings.name}`, "host.ts", environment))
  }

  async supervisor(): Promise<void> {
    this.supervisors.push(await this.#start("a supervisor", "supervisor.ts", this.#nats("supervisor")))
  }

  #nats(role: Role) {
    return natsEnvironment(this.url, keyIn(this.keys, role))
  }

  async #start(name: string, file: string, environment: Record<string, string>): Promise<Own> {
    const scope = Scope.makeUnsafe()
    const actor = await Effect.runPromise(Scope.provide(startActor({ name, file, environment }), scope))
    const ended = Effect.flatMap(actor.ended, (how) => Effect.fail(how))
    await Effect.runPromise(Effect.raceFirst(actor.ready, ended))
    return { actor, scope }
  }

  deploy(deployment: StoredDeployment): Promise<number> {
    return Effect.runPromise(this.#deployments.put(deployment.name, deployment))
  }

  remove(name: string): Promise<void> {
    return Effect.runPromise(this.#deployments.remove(name))
  }

  /** Removes every deployment, and waits until no rank of them takes up cores. */
  async clear(): Promise<void> {
    const records = SubscriptionRef.getUnsafe(this.#records)
    for (const name of records.keys()) await this.remove(name)
    for (const name of records.keys()) await this.until(name, ({ replicas }) => replicas.length === 0)
  }

  /** The newest word of a host; undefined where it is not heard any more. */
  beat(host: string): HostBeat | undefined {
    return this.#seen.all().get(host)
  }

  replicas(name: string): Replicas {
    return SubscriptionRef.getUnsafe(this.#records).get(name)?.value ?? COLD
  }

  /** Every record of a deployment from now on, until one is as wanted; gives all of them. */
  async until(name: string, wanted: (record: Replicas) => boolean): Promise<ReadonlyArray<Replicas>> {
    const seen: Array<Replicas> = []
    const looking = SubscriptionRef.changes(this.#records).pipe(
      Stream.map((all) => all.get(name)?.value ?? COLD),
      Stream.tap((record) => Effect.sync(() => seen.push(record))),
      Stream.filter(wanted),
      Stream.runHead,
    )
    await Effect.runPromise(looking)
    return seen
  }

  /** A client, when a supervisor serves the deployment. */
  async client(deployment: string): Promise<Client> {
    const client = await connect({ url: this.url, keys: join(this.keys, "overseer"), deployment })
    this.#clients.push(client)
    while (!(await answers(client, deployment))) await new Promise((again) => setTimeout(again, 20))
    return client
  }

  async [Symbol.asyncDispose]() {
    await Promise.all(this.#clients.map((client) => client.close()))
    const own = [...this.supervisors, ...this.hosts.values()]
    await Promise.all(own.map(({ scope }) => Effect.runPromise(Scope.close(scope, Exit.void))))
    await Effect.runPromise(Scope.close(this.#scope, Exit.void))
    await this.#server[Symbol.asyncDispose]()
    await rm(this.#folder, { recursive: true })
  }
}

/** Whether anybody answers, if only to refuse. */
const answers = async ({ connection }: Client, deployment: string): Promise<boolean> => {
  try {
    await connection.request(subjectsOf(deployment).infer, "", { timeout: 2_000 })
    return true
  } catch (error) {
    if (error instanceof RequestError && error.isNoResponders()) return false
    throw error
  }
}

/** SIGKILL; never to a process that is not known, since 0 is this process's whole group. */
export const kill = (pid: number | undefined): void => {
  if (pid === undefined || pid <= 0) throw new Error(`there is no process to kill: ${pid}`)
  process.kill(pid, "SIGKILL")
}

/** Whether a process is there. */
export const isAlive = (pid: number): boolean => {
  if (pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

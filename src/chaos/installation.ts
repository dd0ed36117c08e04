// An installation of its own for a chaos run: NATS servers, two hosts, two supervisors, two gateways, each of them on this
// machine and with a way of its own to each server, and one deployment on it. All of it is gone with the scope.
import { extname, join } from "node:path"
import { pathToFileURL } from "node:url"
import { Effect, Layer } from "effect"
import { keyIn, natsEnvironment } from "../bus/access.ts"
import { type Client, connect } from "../client/index.ts"
import { startActor } from "../host/process.ts"
import { addOverseer, CONFIG, makeKeys } from "../natsServer/keyFolder.ts"
import { openDeployments } from "../store/deployments.ts"
import { onNats } from "../store/jetStream.ts"
import { ENVIRONMENT, HTTP_ENVIRONMENT, type StoredDeployment } from "../wire/deployment.ts"
import { type Kept, keepRunning } from "./operator.ts"
import type { Role } from "./plan.ts"
import { proxyTo, type TcpProxy } from "./proxy.ts"
import { freePorts, healthy, type Server, servers } from "./servers.ts"
import { type Watch, watch } from "./watch.ts"

export interface InstallationOptions {
  readonly deployment: StoredDeployment
  readonly folder: string
  readonly mark: string // of the environment of every process, by which those that are left are found
  readonly servers: 1 | 3
  readonly disks: boolean
  /** Hears of an actor or a server that has ended by accident. */
  readonly accident: (what: string) => void
}

/** Something with a way of its own to NATS. */
export interface Site {
  readonly role: Role
  readonly name: string
  readonly proxies: ReadonlyArray<TcpProxy> // one for each server
}

export interface Installation {
  readonly servers: ReadonlyArray<Server>
  readonly actors: ReadonlyArray<Kept> // hosts, supervisors, gateways
  readonly sites: ReadonlyArray<Site> // of the actors and of the clients
  readonly clients: ReadonlyArray<Client>
  readonly gateways: ReadonlyArray<string> // their URLs
  readonly watch: Watch
  /** Whether all that there should be is there, and serves. */
  readonly isWhole: () => Promise<boolean>
}

/** Of these there are two each, so that one can be lost. */
const PAIR = [1, 2] as const

const ACTORS = ["host", "supervisor", "gateway"] as const
type Actor = (typeof ACTORS)[number]

/** By this variable a process is known to belong to the run. */
export const MARK = "CHORUS_CHAOS_RUN"

const CLOCK = pathToFileURL(join(import.meta.dirname, `wallClock${extname(import.meta.filename)}`)).href

/** Started; it is whole some seconds later. */
export const install = Effect.fnUntraced(function* (options: InstallationOptions) {
  const { deployment, mark, accident } = options
  process.env[MARK] = mark // children inherit it, NATS servers too
  const keys = join(options.folder, "keys")
  // Users, as in infra/, but no TLS: proxies know a rank's connection by the name that it gives.
  yield* makeKeys({ folder: keys, deployments: [deployment.name], clients: [], servers: [] })
  const overseer = addOverseer(keys)
  const nats = yield* servers({ ...options, config: join(keys, CONFIG), count: options.servers })
  const siteOf = Effect.fnUntraced(function* (role: Role, number: number) {
    const proxies = yield* Effect.forEach(nats, ({ port }) => proxyTo(port))
    const site: Site = { role, name: `${role}-${number}`, proxies }
    return site
  })
  const sites = (role: Role) => Effect.forEach(PAIR, (number) => siteOf(role, number))
  const all = (yield* Effect.forEach([...ACTORS, "client" as const], sites)).flat()
  const of = (role: Role) => all.filter((site) => site.role === role)
  yield* healthy(nats)
  const url = nats.map(({ port }) => urlOf(port)).join(",")
  const own = yield* Layer.build(onNats({ url, name: "chaos", role: "client", keys: overseer }))
  yield* Effect.provide(
    Effect.flatMap(openDeployments, (bucket) => bucket.put(deployment.name, deployment)),
    own,
  )
  const ports = yield* Effect.promise(() => freePorts(PAIR.length))
  const settings: Readonly<Record<Actor, (site: Site, i: number) => Readonly<Record<string, string>>>> = {
    host: ({ name }) => ({ [ENVIRONMENT.host]: JSON.stringify({ name }) }),
    supervisor: () => ({}),
    gateway: (_, i) => ({ [HTTP_ENVIRONMENT.port]: `${ports[i]}` }),
  }
  const wanted = ACTORS.flatMap((role) =>
    of(role).map((site, i) => wantedOf(site, { ...access(site, keys, role), ...settings[role](site, i) })),
  )
  const actors = yield* Effect.forEach(wanted, (one) => keepRunning(one, accident))
  const clients = yield* Effect.forEach(of("client"), (site) =>
    Effect.acquireRelease(
      Effect.promise(() => connect({ url: throughProxies(site), deployment: deployment.name, keys })),
      (client) => Effect.promise(() => client.close()),
    ),
  )
  const watching = yield* Effect.provide(watch(deployment), own)
  const installation: Installation = {
    ...{ servers: nats, actors, sites: all, clients, watch: watching },
    gateways: ports.map((port) => `http://127.0.0.1:${port}`),
    isWhole: async () => {
      const up = [...actors, ...nats.map(({ kept }) => kept)].every((kept) => kept.isUp())
      if (!up || !watching.isWhole(actors)) return false
      return (await Promise.all(nats.map((server) => server.isHealthy()))).every((healthy) => healthy)
    },
  }
  return installation
})

const urlOf = (port: number): string => `nats://127.0.0.1:${port}`

const throughProxies = ({ proxies }: Site): string => proxies.map(({ port }) => urlOf(port)).join(",")

const access = (site: Site, keys: string, role: Actor) => natsEnvironment(throughProxies(site), keyIn(keys, role))

const wantedOf = ({ name, role }: Site, environment: Readonly<Record<string, string>>) => ({
  ...{ name, role },
  start: Effect.map(
    startActor({
      ...{ name, file: `${role}.ts` },
      environment: { ...environment, NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ""} --import=${CLOCK}` },
    }),
    ({ pid, ready, ended }) => ({ pid, ready, ended: Effect.map(ended, ({ message }) => message) }),
  ),
})

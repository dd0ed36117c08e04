// What a deployment on this machine stands on, whichever way its actors are started: a nats-server where none is given, a
// connection to it, and a gateway where one is asked for.
import { Effect, Layer, type Scope } from "effect"
import { folderOfKeys, keyIn, natsEnvironment } from "../bus/access.ts"
import type { Child } from "../host/supervision.ts"
import { onNats } from "../store/jetStream.ts"
import { type Deployment, HTTP_ENVIRONMENT } from "../wire/deployment.ts"
import type { Role } from "../wire/permissions.ts"
import { checkModels } from "./checkModels.ts"
import { ownGateway } from "./ownGateway.ts"
import { ownFolders, ownServer } from "./ownServer.ts"

export interface Progress {
  /** What is being done, and how much of it, from 0 to 1, where that is known. */
  readonly report: (doing: string, fraction?: number) => void
}

export interface LocalOptions {
  readonly nats: string | null // URL; null starts a server
  readonly keys?: string | null // folder, of a server that asks for keys; by default what the environment says
  readonly gateway?: Readonly<Record<string, string>> // its environment; left out: no HTTP
  readonly progress: Progress
}

/** A deployment on this machine that runs. */
export interface Local<Failure> {
  readonly url: string
  readonly keys: string | null // folder; null: the server asks for none
  readonly http: string | null // URL of the gateway; null where none was asked for
  /** Of those that were started first. */
  readonly pids: {
    readonly natsServer: number | null // null where it is not ours
    readonly gateway: number | null
    readonly supervisor: number
    readonly base: ReadonlyArray<number>
    readonly draft: ReadonlyArray<number>
  }
  /** Fails when a process ends without having been told to, and is not started again. */
  readonly failed: Effect.Effect<never, Failure>
}

/** Starts a child, and sees to what follows when it ends by itself. */
export type Supervise = <C extends Child, E extends Error>(
  name: string,
  start: Effect.Effect<C, E, Scope.Scope>,
) => Effect.Effect<C, E, Scope.Scope>

export const foundation = Effect.fnUntraced(function* (
  deployment: Deployment,
  { nats, keys: given = null, gateway, progress }: LocalOptions,
  supervise: Supervise,
) {
  progress.report("Looking at the models")
  yield* checkModels(deployment)
  progress.report(nats === null ? "Starting nats-server" : `Connecting to ${nats}`)
  const server = nats === null ? yield* supervise("nats-server", yield* sameServer(deployment.name)) : null
  const url = server?.url ?? nats ?? ""
  const keys = server?.keys ?? given ?? folderOfKeys(process.env)
  const fabric = yield* Layer.build(onNats({ url, name: `${deployment.name}.up`, role: "operator", keys }))
  const showing = (role: Role) => natsEnvironment(url, keyIn(keys, role))
  const http = gateway === undefined ? null : yield* supervise("the gateway", sameGateway(showing("gateway"), gateway))
  const pids = { natsServer: server?.pid ?? null, gateway: http?.pid ?? null }
  return { url, keys, http: http?.url ?? null, pids, fabric, showing }
})

/** Each time it is started it has the port, the store and the keys that it had before. */
const sameServer = (deployment: string) =>
  Effect.map(ownFolders(deployment), (folders) => {
    let port: number | undefined
    const again = () => ownServer(folders, port)
    return Effect.suspend(again).pipe(Effect.tap(({ url }) => Effect.sync(() => (port = Number(new URL(url).port)))))
  })

/** Likewise its port, where any was good the first time. */
const sameGateway = (nats: Readonly<Record<string, string>>, environment: Readonly<Record<string, string>>) => {
  let given = environment
  return Effect.suspend(() => ownGateway(nats, given)).pipe(
    Effect.tap(({ url }) =>
      Effect.sync(() => (given = { ...environment, [HTTP_ENVIRONMENT.port]: new URL(url).port })),
    ),
  )
}

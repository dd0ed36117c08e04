// Where a command generates: ranks of its own, or a deployment that runs already.
import { Effect, Option, SubscriptionRef } from "effect"
import { Nats } from "../bus/nats.ts"
import { servedModels } from "../client/models.ts"
import { type LocalCluster as Local, start } from "../local/localCluster.ts"
import { openBuckets } from "../store/deployments.ts"
import type { Deployment } from "../wire/deployment.ts"
import { CommandFailed, UsageError } from "./errors.ts"
import type { Progress } from "./progress.ts"
import { folderOf, running } from "./runtimeState.ts"
import { at, type Server, serversHere } from "./server.ts"

export interface Cluster {
  readonly url: string
  readonly deployment: string // its name
  readonly keys: string | null // folder; null: what the environment says
}

export interface LocalCluster extends Cluster, Omit<Local, "url" | "keys"> {}

export interface LocalOptions {
  readonly nats: Option.Option<string>
  readonly keys: string | null
  readonly progress: Progress
  readonly gateway?: Readonly<Record<string, string>> // its environment; left out: no HTTP
}

/** Ranks that this command starts, until the scope closes. */
export const localCluster = (deployment: Deployment, { nats, keys, ...options }: LocalOptions) =>
  start(deployment, { nats: Option.getOrNull(nats), keys, ...options }).pipe(
    Effect.map((local): LocalCluster => ({ ...local, deployment: deployment.name })),
  )

/** The deployment that a server has; none where it has none. Several are for the user to tell apart. */
export const deploymentAt = ({ url, keys }: Server) =>
  at(
    { url, keys },
    Effect.gen(function* () {
      const { connection } = yield* Nats
      const names = (yield* Effect.promise(() => servedModels(connection))).map(({ deployment }) => deployment)
      const [only, ...others] = names
      if (others.length > 0) {
        return yield* new UsageError({ reason: `${url} has ${names.join(", ")}: say which with --name` })
      }
      return only === undefined ? undefined : ({ url, keys, deployment: only } satisfies Cluster)
    }),
  )

/** A deployment of this machine: what `chorus up` runs, or what was deployed on the server of one. */
export const runningNamed = Effect.fnUntraced(function* (name: string) {
  const here = running(folderOf(process.env))
  const entry = here.find((entry) => entry.name === name)
  if (entry !== undefined) return { url: entry.nats, keys: entry.keys, deployment: name } satisfies Cluster
  const stored = yield* Effect.forEach(serversHere(), (server) =>
    Effect.map(at(server, storedNames), (names) => ({ server, names })),
  )
  const [only, ...others] = stored.filter(({ names }) => names.includes(name))
  if (only !== undefined && others.length === 0) return { ...only.server, deployment: name } satisfies Cluster
  if (only !== undefined) {
    const urls = [only, ...others].map(({ server }) => server.url)
    return yield* new UsageError({ reason: `${urls.join(" and ")} have a deployment ${name}: say which with --nats` })
  }
  const names = [...new Set([...here.map((entry) => entry.name), ...stored.flatMap(({ names }) => names)])]
  const known = names.length === 0 ? "nothing runs here" : `here is ${names.join(", ")}`
  const reason = `no deployment ${name}: ${known}. \`chorus up --name ${name}\` starts one, \`chorus deploy FILE\` adds one to what runs, --nats names another server.`
  return yield* new CommandFailed({ reason })
})

const storedNames = Effect.gen(function* () {
  const { deployments } = yield* openBuckets
  return [...(yield* SubscriptionRef.get(yield* deployments.follow)).keys()]
})
